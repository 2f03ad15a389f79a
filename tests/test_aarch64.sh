#!/usr/bin/env bash
# test_aarch64.sh CMAKE GENERATOR SOURCE BUILD SYSROOT STOKER: builds for AArch64, runs the exactness
# tests under qemu, and compares the logits of the bundled model with those of STOKER, the native
# program, to the bit.
set -u
cmake=$1 generator=$2 source=$3 build=$4 sysroot=$5 stoker=$6
model=$source/models/stories-q4_0.gguf

skip()
{
    echo "skipped: $1"
    exit 77
}
command -v aarch64-linux-gnu-gcc >/dev/null || skip 'no aarch64-linux-gnu-gcc'
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || skip 'no qemu-aarch64'
[ -e "$sysroot/packages" ] || skip "no libraries in $sysroot: run cmake/aarch64_sysroot.sh"

set -eo pipefail
"$cmake" -G "$generator" -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=Release -DSTK_WERROR=ON \
    -DCMAKE_TOOLCHAIN_FILE="$source/cmake/aarch64.cmake" -DSTK_AARCH64_SYSROOT="$sysroot" >/dev/null || {
    echo "configuring failed; a library missing? add it to cmake/aarch64_sysroot.sh and run that"
    exit 1
}
"$cmake" --build "$build" --parallel 2 --target \
    stoker test_types test_matrix test_kernels test_kernel_ops | tail -n 1
(cd "$build" && ctest --output-on-failure --no-tests=error \
    -R '^(types|matrix|kernels|kernel_ops|kernels_armv8|kernel_ops_armv8)$')

# Logits: every set of kernels on both machines, and an ARM without the dot product. One thread:
# this compares arithmetic, and threads that wait for each other are no subject for an emulator.
[ -r "$model" ] || exit 0
out=$(mktemp -d) && trap 'rm -rf "$out"' EXIT
prompt='Once upon a time there was a little dog. It had found a red ball, and it wanted to share it.'
"$stoker" logits "$model" -p "$prompt" -o "$out/native"
[ "$(wc -c <"$out/native")" -gt 100000 ]

# same WHAT QEMU_ARGUMENT... -- STOKER_ARGUMENT...
same()
{
    local what=$1 machine=()
    shift
    while [ "$1" != -- ]; do machine+=("$1") && shift; done
    shift
    "$qemu" -L "$sysroot" "${machine[@]}" "$build/stoker" logits "$model" -p "$prompt" \
        -o "$out/arm" --threads 1 "$@" || { echo "FAILED: $what: ended with $?" && exit 1; }
    cmp "$out/native" "$out/arm" || { echo "FAILED: $what: other logits than here" && exit 1; }
    echo "$what: the same logits"
}
same 'neon, batches' -- --cpu-mask neon
same 'neon, one token at a time' -- --cpu-mask neon --batch 1
same 'scalar' -- --cpu-mask scalar
same 'armv8.0' -cpu cortex-a57 --
