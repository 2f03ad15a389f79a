#!/usr/bin/env bash
# bench/limits.sh STOKER MODEL SIZE_MIB[,SIZE_MIB...] [TOKENS [OPTION...]]: does --memory hold?
#
# Runs TOKENS (2000) tokens in a memory control group of exactly each size, and prints one row per
# size: how the run ended, the process's own peak (VmHWM), the group's peak, how often the group met
# its limit and killed, the speed and what was read. Needs the right to make control groups (either
# version). Ends with 1 if any limit did not hold.
set -u
[ $# -ge 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
stoker=$(realpath "$1") model=$(realpath "$2") sizes=$3 tokens=${4:-2000}
shift $(($# < 4 ? 3 : 4))
[ -x "$stoker" ] && [ -r "$model" ] || { echo 'no such program or model' >&2; exit 2; }
base=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ {print $2; exit}' /proc/mounts) version=1
if [ -z "$base" ]; then
    base=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts) version=2
fi
group=$base/stoker-limits-$$ dir=$(mktemp -d) bad=0
cleanup()
{
    rmdir "$group" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT

if [ $version -eq 1 ]; then limit=memory.limit_in_bytes peak=memory.max_usage_in_bytes
else limit=memory.max peak=memory.peak; fi
met()
{
    if [ $version -eq 1 ]; then cat "$group/memory.failcnt"
    else awk '$1 == "max" {print $2}' "$group/memory.events"; fi
}
kills()
{
    if [ $version -eq 1 ]; then awk '$1 == "oom_kill" {print $2}' "$group/memory.oom_control"
    else awk '$1 == "oom_kill" {print $2}' "$group/memory.events"; fi
}

printf '%9s %5s %8s %10s %9s %6s %6s %9s %10s %7s\n' 'limit MiB' ended tokens 'VmHWM MiB' 'group MiB' \
    'met' 'kills' 'tokens/s' 'MiB/token' 'hits %'
for mib in ${sizes//,/ }; do
    rmdir "$group" 2>/dev/null
    mkdir "$group" && echo $((mib << 20)) >"$group/$limit" || { echo 'no control group' >&2; exit 2; }
    [ -w "$group/memory.swap.max" ] && echo 0 >"$group/memory.swap.max"
    # stoker prints its own peak last; the shell that joins the group becomes stoker
    sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$group" "$stoker" run "$model" \
        -p 'The history of the town begins with a river.' -n "$tokens" --temp 1 --top-k 0 --seed 11 \
        --no-usage --memory "${mib}MiB" --ctx $((tokens + 48)) --json --verbose "$@" \
        >"$dir/out" 2>"$dir/err" </dev/null &
    child=$! hwm=0
    while kill -0 $child 2>/dev/null; do
        now=$(awk '$1 == "VmHWM:" {print $2}' /proc/$child/status 2>/dev/null)
        hwm=${now:-$hwm}
        sleep 0.2
    done
    wait $child
    code=$?
    speed=$(sed -n 's/.*decode \([0-9]*\) tokens in [0-9.]* s, \([0-9.]*\) tokens.*/\1 \2/p' "$dir/err")
    read_=$(sed -n 's/.*(\([0-9.]*\) MiB per token.*/\1/p' "$dir/err")
    hits=$(sed -n 's/.*; \([0-9.]*\) % of [0-9]* wanted.*/\1/p' "$dir/err")
    group_peak=$(cat "$group/$peak" 2>/dev/null || echo 0)
    printf '%9s %5s %8s %10.1f %9.1f %6s %6s %9s %10s %7s\n' "$mib" "$code" "${speed% *}" \
        "$(awk "BEGIN {print $hwm / 1024}")" "$(awk "BEGIN {print $group_peak / 1048576}")" \
        "$(met)" "$(kills)" "${speed#* }" "${read_:--}" "${hits:--}"
    if [ $code -ne 0 ] || [ "$(met)" -ne 0 ] || [ "$(kills)" != 0 ] || [ "$hwm" -gt $((mib << 10)) ]; then
        tail -n 4 "$dir/err" >&2
        bad=1
    fi
done
exit $bad
