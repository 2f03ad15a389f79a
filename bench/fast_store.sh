#!/usr/bin/env bash
# bench/fast_store.sh STOKER MODEL SIZE [GB_PER_S [TURNS [OPTION...]]]: how much of its in-memory speed
# a model keeps under --memory SIZE when its file lies on a store as fast as an NVMe drive.
#
# Copies MODEL, and its sidecar if there is one, to a file system on a loop device on tmpfs, whose
# reads are throttled to GB_PER_S (3.5), and takes turns (3) with everything in memory. A tmpfs itself
# has no direct reads, and the loop device copies with the cores that compute, which a drive does by
# itself: so everything in memory is also measured beside dd, which reads as many bytes per second
# from there. Needs root, control groups of version 1, and memory for the copy.
# TURNS may be `prepare`, which only makes the copy for later calls, or `remove`.
set -u
[ $# -ge 3 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
stoker=$(realpath "$1") model=$(realpath "$2") size=$3 rate=${4:-3.5} turns=${5:-3}
shift $(($# < 5 ? $# : 5))
image=/dev/shm/stoker-fast.img folder=/dev/shm/stoker-fast
group=/sys/fs/cgroup/blkio/stoker-fast-$$
reader=''
name=$(basename "$model") sidecar=${model%.gguf}.stoker

remove()
{
    umount "$folder" 2>/dev/null
    rm -rf "$folder" "$image"
}
prepare()
{
    local mib=$(($(stat -c %s "$model") + $(stat -c %s "$sidecar" 2>/dev/null || echo 0)))
    truncate -s $((mib / 1048576 * 103 / 100 + 64))M "$image" && mkfs.ext4 -q -m 0 "$image" &&
        mkdir -p "$folder" && mount -o loop "$image" "$folder" &&
        cp -p "$model" "$folder/" && { [ ! -e "$sidecar" ] || cp -p "$sidecar" "$folder/"; } &&
        sync "$folder/$name"
}
case $turns in
prepare) prepare; exit ;;
remove) remove; exit ;;
esac
keeps=1
mountpoint -q "$folder" || keeps=0
[ $keeps -eq 1 ] || prepare || { remove; exit 1; }
cleanup()
{
    [ -z "$reader" ] || stop_reading
    rmdir "$group" "$group-beside" 2>/dev/null
    [ $keeps -eq 1 ] || remove
}
trap cleanup EXIT
device=$(findmnt -n -o MAJ:MIN "$folder" | tr -d ' ')
limit() # GROUP BYTES_PER_S
{
    mkdir -p "$1" && printf '%s %.0f' "$device" "$2" >"$1/blkio.throttle.read_bps_device"
}
limit "$group" "$(awk "BEGIN {print $rate * 1e9}")" || exit 1

within() { sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$@"; }
throttled() { within "$group" "$@"; }
start_reading() # BYTES_PER_S: from the copy, until stop_reading
{
    limit "$group-beside" "$1" || exit 1
    within "$group-beside" sh -c 'while :; do dd if="$1" of=/dev/null bs=2M iflag=direct; done' - \
        "$folder/$name" 2>/dev/null &
    reader=$!
}
stop_reading()
{
    kill "$reader" # the loop; its dd reads to the end
    wait "$reader"
    while read -r pid; do kill "$pid"; done <"$group-beside/cgroup.procs"
    while [ -s "$group-beside/cgroup.procs" ]; do sleep 0.1; done
    reader=''
} 2>/dev/null
point() # MEMORY OPTION...: tokens/s, share of hits, bytes read per token, seconds of stall
{
    throttled "$stoker" bench "$folder/$name" -p 0 -n 64 --warmup 200 --quick -o csv --memory "$@" \
        2>/dev/null | awk -F, '
        NR == 1 {for (i = 1; i <= NF; i++) at[$i] = i}
        NR == 2 {print $at["tokens_per_s_median"], $at["hit_rate"], $at["disk_bytes_per_token"],
                 $at["stall_s_per_token"]}'
}
throttled dd if="$folder/$name" of=/dev/null bs=4M count=256 iflag=direct 2>&1 | tail -n 1
printf '%5s %12s %12s %12s %7s %7s %8s %10s %9s\n' turn 'in memory/s' 'beside dd/s' "$size/s" share \
    'of dd' 'hits %' MiB/token 'stall ms'
for ((i = 1; i <= turns; i++)); do
    read -r all _ < <(point auto)
    read -r some hits bytes stall < <(point "$size" "$@")
    start_reading "$(awk "BEGIN {print $some * $bytes}")"
    read -r beside _ < <(point auto)
    stop_reading
    awk "BEGIN {printf \"%5d %12.2f %12.2f %12.2f %6.1f%% %6.1f%% %8.1f %10.2f %9.2f\\n\", $i, $all, $beside, $some,
         100 * $some / $all, 100 * $some / $beside, 100 * $hits, $bytes / 1048576, 1000 * $stall}"
done
