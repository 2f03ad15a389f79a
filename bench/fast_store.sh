#!/usr/bin/env bash
# bench/fast_store.sh STOKER MODEL SIZE [GB_PER_S [TURNS [OPTION...]]]: how much of its in-memory speed
# a model keeps under --memory SIZE when its file lies on a store as fast as an NVMe drive.
#
# Copies MODEL, and its sidecar if there is one, to a file system on a loop device on tmpfs, whose
# reads are throttled to GB_PER_S (3.5), and takes turns (3) with everything in memory. A tmpfs itself
# has no direct reads. Needs root, control groups of version 1, and memory for the copy.
# TURNS may be `prepare`, which only makes the copy for later calls, or `remove`.
set -u
[ $# -ge 3 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
stoker=$(realpath "$1") model=$(realpath "$2") size=$3 rate=${4:-3.5} turns=${5:-3}
shift $(($# < 5 ? $# : 5))
image=/dev/shm/stoker-fast.img folder=/dev/shm/stoker-fast
group=/sys/fs/cgroup/blkio/stoker-fast-$$
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
    rmdir "$group" 2>/dev/null
    [ $keeps -eq 1 ] || remove
}
trap cleanup EXIT
device=$(findmnt -n -o MAJ:MIN "$folder" | tr -d ' ')
mkdir "$group" && echo "$device $(awk "BEGIN {printf \"%d\", $rate * 1e9}")" \
    >"$group/blkio.throttle.read_bps_device" || exit 1

throttled() { sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$group" "$@"; }
point() # MEMORY OPTION...: tokens/s, share of hits, bytes read per token, seconds of stall
{
    throttled "$stoker" bench "$folder/$name" -p 0 -n 64 --warmup 200 --quick -o csv --memory "$@" \
        2>/dev/null | awk -F, '
        NR == 1 {for (i = 1; i <= NF; i++) at[$i] = i}
        NR == 2 {print $at["tokens_per_s_median"], $at["hit_rate"], $at["disk_bytes_per_token"],
                 $at["stall_s_per_token"]}'
}
throttled dd if="$folder/$name" of=/dev/null bs=4M count=256 iflag=direct 2>&1 | tail -n 1
printf '%5s %12s %12s %7s %8s %10s %9s\n' turn 'in memory/s' "$size/s" share 'hits %' MiB/token 'stall ms'
for ((i = 1; i <= turns; i++)); do
    read -r all _ < <(point auto)
    read -r some hits bytes stall < <(point "$size" "$@")
    awk "BEGIN {printf \"%5d %12.2f %12.2f %6.1f%% %8.1f %10.2f %9.2f\\n\", $i, $all, $some,
         100 * $some / $all, 100 * $hits, $bytes / 1048576, 1000 * $stall}"
done
