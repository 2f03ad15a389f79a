#!/bin/sh
# Compiled shaders are valid, and no float addition or multiplication may be contracted: each result is
# marked NoContraction. Status 77 without spirv-tools.
command -v spirv-val >/dev/null && command -v spirv-dis >/dev/null || exit 77
failed=0
for file in "$@"; do
    spirv-val --target-env vulkan1.2 "$file" || failed=1
    spirv-dis "$file" | awk -v file="$file" '
        /OpDecorate .* NoContraction/ { marked[$2] = 1 }
        / = Op(FMul|FAdd|FSub|FDiv|FNegate|Dot|VectorTimesScalar) / { n++; if (!marked[$1]) { print file ": " $0; bad = 1 } }
        END { if (!NR) { print file ": cannot be read"; bad = 1 } exit bad }' || failed=1
done
[ $# -gt 0 ] && exit $failed
