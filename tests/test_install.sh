#!/usr/bin/env bash
# test_install.sh CMAKE BUILD MODEL: what is installed runs by itself, and over two ranks where there
# is MPI, from whatever folder.
set -u
cmake=$1 build=$2
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cp "$3" "$folder/model.gguf" || exit 1 # a record of what is used is kept beside it
failures=0

fail() { printf 'failed: %s\n' "$*" && failures=$((failures + 1)); }

"$cmake" --install "$build" --prefix "$folder/prefix" >"$folder/log" 2>&1 || fail "$(cat "$folder/log")"
mv "$folder/prefix" "$folder/elsewhere" || exit 1
run=(run "$folder/model.gguf" -p "Once upon a time" -n 12 --temp 0)
"$build/stoker" "${run[@]}" >"$folder/want" 2>&1 || fail "built: $(cat "$folder/want")"
"$folder/elsewhere/bin/stoker" "${run[@]}" >"$folder/got" 2>&1 || fail "installed: $(cat "$folder/got")"
cmp -s "$folder/want" "$folder/got" || fail "another text: $(cat "$folder/got")"
[ -e "$folder/elsewhere/share/doc/stoker/LICENSE" ] || fail "the licence is missing"

if [ -e "$build/libstoker-mpi.so" ] && command -v mpirun >/dev/null &&
    mpirun --allow-run-as-root --oversubscribe -n 2 true >/dev/null 2>&1; then
    timeout 120 mpirun --allow-run-as-root --oversubscribe --bind-to none \
        --mca mpi_yield_when_idle 1 --mca btl_base_warn_component_unused 0 -n 2 \
        "$folder/elsewhere/bin/stoker" "${run[@]}" </dev/null >"$folder/got" 2>"$folder/log" ||
        fail "two ranks: $(cat "$folder/log")"
    cmp -s "$folder/want" "$folder/got" || fail "two ranks: another text: $(cat "$folder/got")"
fi
exit $((failures > 0))
