#!/usr/bin/env bash
# test_memory_limit.sh STOKER MODEL: --memory holds, in a control group of exactly that size and by
# the process's own peak; too small a limit names the least, and that works; direct reads leave the
# page cache alone.
set -u
stoker=$(realpath "$1") model=$(realpath "$2")
[ -r "$model" ] || exit 77
# Sanitizers keep shadow memory that no plan knows of.
nm "$stoker" 2>/dev/null | grep -qE '__(asan|tsan)_init' && exit 77
dir=$(mktemp -d "$PWD/memory-test-XXXXXX")
group=
cleanup()
{
    [ -n "$group" ] && rmdir "$group"
    rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir" || exit 1
cp "$model" model.gguf && sync model.gguf
failures=0

fail()
{
    printf 'FAILED: %s\n' "$*"
    sed 's/^/  stderr: /' err 2>/dev/null | head -c 1500
    failures=$((failures + 1))
}

# --- a control group of our own, of either version
find_group()
{
    local base
    if base=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ {print $2; exit}' /proc/mounts) &&
        [ -n "$base" ]; then
        version=1
        base=$base$(awk -F: '$2 ~ /(^|,)memory(,|$)/ {print $3}' /proc/self/cgroup)
        [ -d "$base" ] || base=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ {print $2; exit}' /proc/mounts)
    else
        version=2
        base=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)$(awk -F: '$1 == 0 {print $3}' /proc/self/cgroup)
    fi
    group=$base/stoker-test-$$
    if ! mkdir "$group" 2>/dev/null; then
        group=
        return 1
    fi
    [ -w "$group/$(limit_file)" ]
}
limit_file() { [ $version -eq 1 ] && echo memory.limit_in_bytes || echo memory.max; }
peak_file() { [ $version -eq 1 ] && echo memory.max_usage_in_bytes || echo memory.peak; }
# how often the limit was met, and how often somebody was killed
hits()
{
    if [ $version -eq 1 ]; then cat "$group/memory.failcnt"
    else awk '$1 == "max" {print $2}' "$group/memory.events"; fi
}
kills()
{
    if [ $version -eq 1 ]; then awk '$1 == "oom_kill" {print $2}' "$group/memory.oom_control"
    else awk '$1 == "oom_kill" {print $2}' "$group/memory.events"; fi
}

# in_group BYTES ARGUMENT...: runs stoker in a fresh group of that size
in_group()
{
    local bytes=$1
    shift
    rmdir "$group" 2>/dev/null
    mkdir "$group" || return 1
    echo "$bytes" >"$group/$(limit_file)" || return 1
    [ -w "$group/memory.swap.max" ] && echo 0 >"$group/memory.swap.max"
    sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$group" "$stoker" "$@" >out 2>err </dev/null
}

run_options=(-p 'Once upon a time' -n 200 --seed 3 --json --no-usage --threads 2)

# check_limit MIB OPTION...: a run of 200 tokens under the limit
check_limit()
{
    local mib=$1 bytes=$(($1 << 20)) peak
    shift
    in_group "$bytes" run model.gguf "${run_options[@]}" --memory "${mib}MiB" "$@"
    local code=$?
    [ $code -eq 0 ] || fail "$mib MiB $*: ended with $code"
    peak=$(cat "$group/$(peak_file)" 2>/dev/null || echo 0)
    printf 'limit %s MiB %s: peak %s KiB of %s KiB, limit met %s times\n' "$mib" "$*" \
        $((peak >> 10)) $((bytes >> 10)) "$(hits)"
    [ "$peak" -le "$bytes" ] || fail "$mib MiB $*: peak of $peak bytes"
    [ "$(hits)" -eq 0 ] || fail "$mib MiB $*: the limit was met $(hits) times"
    [ "$(kills)" = 0 ] || fail "$mib MiB $*: killed $(kills) times"
    text_of out >"text.$mib"
    same_text "text.$mib" "$mib MiB $*"
}
text_of() { grep -o '"text": *"[^"]*"' "$1"; }
same_text() { [ -s "$1" ] && cmp -s "$1" text.resident || fail "$2: another text than with everything in memory"; }

"$stoker" run model.gguf "${run_options[@]}" >out 2>err || fail "everything in memory"
text_of out >text.resident
[ -s text.resident ] || fail "no text"

# --- too small: refused with a table and the least that works
"$stoker" run model.gguf "${run_options[@]}" --memory 2MiB >out 2>err
[ $? -eq 1 ] || fail "2 MiB were not refused"
for row in 'program and vocabulary' 'attention, routers, head' 'KV cache and scratch' \
    'reads in flight' 'experts' 'sum'; do
    grep -qE "$row +[0-9.]+ MiB" err || fail "the table lacks: $row"
done
least=$(sed -n 's/.*give --memory \([0-9]*\)MiB or more.*/\1/p' err)
[ -n "$least" ] || { fail "no least limit was named"; exit 1; }

# --- the process's own peak, with and without a control group
vm_peak()
{
    /usr/bin/env python3 - "$@" <<'PY' 2>/dev/null
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=open("out", "w"),
                      stderr=open("err", "w")).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
PY
}
command -v python3 >/dev/null || echo 'VmHWM: not checked, there is no python3'
for mib in "$least" $((least + 6)); do
    command -v python3 >/dev/null || break
    read -r code peak_kib < <(vm_peak "$stoker" run model.gguf "${run_options[@]}" --memory "${mib}MiB")
    [ "${code:-}" = 0 ] || fail "$mib MiB, the least or more, ended with '${code:-}'"
    [ "${peak_kib:-999999999}" -le $((mib << 10)) ] || fail "$mib MiB: VmHWM of $peak_kib KiB"
    printf 'limit %s MiB: VmHWM %s KiB of %s KiB\n' "$mib" "$peak_kib" $((mib << 10))
    text_of out >text.own
    same_text text.own "$mib MiB"
done

# --- the page cache: none of what is read with O_DIRECT
cached_bytes() { fincore --bytes --noheadings --output RES model.gguf 2>/dev/null | tr -d ' '; }
drop() { dd if=model.gguf of=/dev/null iflag=nocache count=0 status=none; sync model.gguf; }
if [ -n "$(cached_bytes)" ] && dd if=model.gguf of=/dev/null iflag=direct bs=4096 count=1 2>/dev/null; then
    drop
    before=$(cached_bytes)
    "$stoker" run model.gguf "${run_options[@]}" --memory "${least}MiB" >out 2>err || fail "direct reads"
    after=$(cached_bytes)
    size=$(stat -c %s model.gguf)
    # The header is mapped and stays; the weights are the rest.
    [ $((after - before)) -le 1572864 ] || fail "the page cache grew from $before to $after bytes"
    "$stoker" run model.gguf "${run_options[@]}" --memory "${least}MiB" --buffered >out 2>err
    buffered=$(cached_bytes)
    [ "$buffered" -gt $((size / 2)) ] || fail "buffered reads left only $buffered bytes cached: what is measured?"
    printf 'page cache of the model: %s bytes before, %s after, %s after buffered reads, of %s\n' \
        "$before" "$after" "$buffered" "$size"
    drop
else
    echo 'page cache: not checked here'
fi

# --- in a control group
if find_group; then
    check_limit "$least"
    check_limit "$least" --io threads
    check_limit 24
    check_limit 24 --guess-layers 3 --batch 64
    "$stoker" pack model.gguf >out 2>err || fail "pack"
    check_limit "$least" # with its sidecar
    rm -f model.stoker
    in_group $((least << 20)) run model.gguf "${run_options[@]}" --memory 3MiB
    [ $? -eq 1 ] || fail "3 MiB were not refused in a group"
else
    [ $failures -eq 0 ] || exit 1
    echo 'no memory controller to write to: control groups were not checked'
    exit 77
fi
[ $failures -eq 0 ]
