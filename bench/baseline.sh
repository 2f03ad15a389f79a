#!/usr/bin/env bash
# baseline.sh STOKER MODEL [OPTION...]: a prompt of 512 tokens and 64 decoded ones with every set of
# kernels that this machine has but the portable ones, as CSV; options are those of stoker bench.
# Close everything else first, and look at the column `noise`.
set -eu
stoker=${1:?stoker} model=${2:?model}
shift 2
rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
line=1 # the first set's with the header
for kernels in $("$stoker" topo --quiet | sed -n 's/^kernels *//p' | tr -d ,); do
    [ "$kernels" != scalar ] || continue
    "$stoker" bench "$model" --cpu-mask "$kernels" -o csv "$@" >"$rows"
    tail -n "+$line" "$rows"
    line=2
done
