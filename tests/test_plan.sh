#!/usr/bin/env bash
# test_plan.sh STOKER MODEL [cgroup]: stoker plan as a user meets it; or in a control group (version
# 1) of its own, skipped where none can be made.
set -u
stoker=${1:?stoker} model=${2:?model} part=${3:-}
work=$(mktemp -d)
group=stoker-test-$$
controllers=(/sys/fs/cgroup/memory /sys/fs/cgroup/cpu)
cleanup()
{
    for c in "${controllers[@]}"; do
        rmdir "$c/$group" 2>/dev/null
    done
    rm -rf "$work"
}
trap cleanup EXIT
export XDG_CACHE_HOME=$work/cache
fail() { echo "FAILED: $*" && cat "$work/out" "$work/err" && exit 1; }
has() { grep -qE -- "$1" "$work/out" || fail "no '$1'"; }
plan() { "$stoker" plan "$model" "$@" >"$work/out" 2>"$work/err"; }

if [ "$part" != cgroup ]; then
    # An invented machine: nothing is measured, and it says so.
    plan --topology 'pack:2 numa:1(memory=17179869184) core:4 pu:2' --explain || fail 'an invented machine'
    has 'invented: 8 cores, 2 memory nodes, 32 GiB available'
    has 'assumed, not measured'
    [ -s "$work/err" ] && fail 'something was measured'

    # Where values come from.
    printf 'cpu:\n  threads: 2\nsession:\n  batch: 64\n' >"$work/x.yaml"
    plan --topology 'core:4 pu:1' --config "$work/x.yaml" --batch 48 --explain || fail 'a configuration'
    has "^threads +2 +$work/x.yaml line 2$"
    has '^batch +48 rows.* flag --batch$'
    has '^guesses .*(best of all combinations|searched)$'
    has 'too short to predict well'

    # JSON says the same.
    plan --topology 'core:4 pu:1' --threads 3 --json || fail '--json'
    python3 - "$work/out" <<'PY' || fail 'the JSON'
import json, sys
p = json.load(open(sys.argv[1]))
stages = p["decode"]["stages"]
assert p["threads"] == 3
assert abs(sum(s["seconds"] for s in stages.values()) - p["decode"]["seconds"]) < 1e-9
assert p["memory"]["total_bytes"] >= p["memory"]["cache_bytes"] > 0
PY
    plan --topology 'core:4 pu:1' --memory 1MiB && fail 'a megabyte was enough'
    grep -q 'too little' "$work/err" || fail 'no reason'
    echo passed
    exit 0
fi

# This machine in a control group with one processor and 2 GiB.
for c in "${controllers[@]}"; do
    mkdir "$c/$group" 2>/dev/null || exit 77
done
{
    echo $((2 << 30)) >"/sys/fs/cgroup/memory/$group/memory.limit_in_bytes" &&
        echo 100000 >"/sys/fs/cgroup/cpu/$group/cpu.cfs_period_us" &&
        echo 100000 >"/sys/fs/cgroup/cpu/$group/cpu.cfs_quota_us"
} 2>/dev/null || exit 77
(
    for c in "${controllers[@]}"; do
        echo $BASHPID >"$c/$group/tasks" || exit 1
    done
    plan --explain
) || fail 'in a control group'
grep -q 'measuring this machine' "$work/err" || fail 'nothing was measured'
has ', (1[.0-9]*|2) GiB available'
has '^threads +1 '
has 'measured [0-9-]+'
echo passed
