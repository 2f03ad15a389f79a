#!/usr/bin/env bash
# test_topo.sh STOKER TOPOLOGIES: stoker topo and --config as a user meets them.
set -u
stoker=$(realpath "$1") topologies=$(realpath "$2")
. "$(dirname "$0")/program_test.sh"
export XDG_CACHE_HOME=$PWD/cache

# --- machines that are not this one
expect 0 topo --topology 'pack:2 numa:2 core:4 pu:2'
prints '^machine +2 packages, 4 memory nodes, 16 cores, 32 threads, fingerprint [0-9a-f]{16}$'
prints '^  node 3   1 GiB, threads 24-31$'
expect 0 topo --topology "$topologies/hybrid.xml"
prints '^  cores    2 performance, 1 thread each$'
prints '^  cores    4 efficiency, 1 thread each$'
prints '^pci 0000:01:00.0 display Example GPU, link 15.8 GB/s$'
expect 0 topo --topology "$topologies/tiers.xml"
prints '^  node 2   128 GiB CXL, no cores of its own'
prints '^  node 0 +120000 +60000 +30000$'
expect 0 topo --topology "$topologies/tiers.xml" --json
prints '^\{"fingerprint": "[0-9a-f]{16}", "this_machine": false, .*"disk": null, "measured": null\}$'
expect 1 topo --topology 'no such thing'
says 'neither a topology file'
expect 1 topo --topology "$stoker"
says 'not an hwloc topology'
expect 2 topo --topology 'pu:1' --probe
expect 2 topo --refresh
expect 2 topo more
expect 1 topo --path no-such-file
says 'no-such-file: No such file'

# --- this one
expect 0 topo
prints '^memory .* available of '
prints '^measured +nothing yet'
# The kernels named first are those that run; every one can be asked for.
kernels=$(sed -n 's/^kernels *//p' out)
[[ $kernels == *scalar ]] || fail "kernels are '$kernels'"
[ -s err ] && fail 'a plain topo wrote to standard error'
[ -e cache ] && fail 'looking made a cache'
first=$(sed -n 's/.*"workers": \([0-9]*\).*/\1/p' <("$stoker" topo --json))
[ "$first" -ge 1 ] || fail 'there are no workers'
# GPUs: text and JSON agree, and a machine without a driver has none
gpus=$("$stoker" topo | grep -c '^vulkan [0-9]')
expect 0 topo --json
[ "$(grep -o '"unusable_because"' out | wc -l)" -eq "$gpus" ] || fail 'text and JSON differ in GPUs'
VK_ICD_FILENAMES=$PWD/none.json VK_DRIVER_FILES=$PWD/none.json expect 0 topo --json
prints '"vulkan_devices": \[\]'
mkdir -p cache/stoker && echo '{"version": 1, "machines": [' >cache/stoker/probe.json
expect 0 topo
says 'the cache is ignored'

# --- taskset and ulimit
cpus=$(taskset -cp $$ 2>/dev/null | sed 's/.*: //')
if [ -n "$cpus" ]; then
    taskset -c "${cpus%%[-,]*}" "$stoker" topo >out 2>err || fail 'topo under taskset failed'
    prints '^machine .* 1 core, 1 thread, '
fi
if (ulimit -v 4194304 && "$stoker" topo >out 2>err); then
    prints 'addresses limited to 4 GiB'
fi

# --- a cgroup of our own, where the system allows one
group=
for tree in /sys/fs/cgroup/memory /sys/fs/cgroup; do
    if [ -w "$tree/cgroup.procs" ] && mkdir "$tree/stoker-test-$$" 2>/dev/null; then
        group=$tree/stoker-test-$$
        break
    fi
done
if [ -n "$group" ]; then
    limit=$group/memory.max
    [ -e "$group/memory.limit_in_bytes" ] && limit=$group/memory.limit_in_bytes
    if echo 268435456 2>/dev/null >"$limit" &&
        (echo 0 >"$group/cgroup.procs") 2>/dev/null; then
        (echo 0 >"$group/cgroup.procs" && exec "$stoker" topo) >out 2>err
        prints 'limited to 256 MiB'
    fi
    rmdir "$group" 2>/dev/null || { sleep 1 && rmdir "$group"; }
fi

# --- configs
printf 'cpu: {threads: 1}\nsampling:\n  temprature: 0.5\n' >bad.yaml
for command in run logits ppl; do
    expect 2 "$command" model --config bad.yaml
    says 'bad.yaml:3:3'
    says "there is no key 'sampling.temprature', did you mean 'sampling.temperature'?"
    expect 2 "$command" model --config no-such.yaml
    says 'no-such.yaml: No such file'
done
printf 'cpu: {mask: no-such-mask}\n' >good.yaml
expect 2 run model --config good.yaml --config good.yaml
says 'only once'

finish
