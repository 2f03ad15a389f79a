#!/usr/bin/env bash
# test_cluster.sh STOKER MODEL PART FLIGHTS: one model over several processes of this machine.
#   same    tokens and logits are those of one process, however the layers are split
#   flights several forwards under way at once (the program FLIGHTS, tests/test_flights.c)
#   usage   mistakes, a rank with another model, a rank without memory
#   lost    a rank is killed, or stops answering
#   link    the cable between two network namespaces is pulled
set -u
stoker=$1 part=$3 flights=${4:-}
command -v mpirun >/dev/null || { echo "no mpirun" && exit 77; }
[ -e "$(dirname "$stoker")/libstoker-mpi.so" ] || { echo "built without MPI" && exit 77; }
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
model=$folder/model.gguf # a copy: records of what is used are kept beside it
cp "$2" "$model" || exit 1
failures=0

fail() { printf 'failed: %s\n' "$*" && failures=$((failures + 1)); }

# Waiting processes must not keep the few cores from those that compute.
mpirun=(timeout 300 mpirun --allow-run-as-root --oversubscribe --bind-to none
    --mca mpi_yield_when_idle 1 --mca btl_base_warn_component_unused 0)
ranks() { "${mpirun[@]}" -n "$@" </dev/null; }

ranks 2 "$stoker" logits "$model" --ids 1 -o "$folder/probe" >"$folder/log" 2>&1 || {
    cat "$folder/log"
    grep -qE 'not enough slots|unable to (start|reliably start)' "$folder/log" && exit 77
    fail "two ranks do not start"
    exit 1
}

# ---- same ----

ids=$(seq -s, 3 7 600 | cut -d, -f1-70)

# same_logits WHAT RANKS FLAG...
same_logits()
{
    local what=$1 count=$2
    shift 2
    rm -f "$folder/got"
    ranks "$count" "$stoker" logits "$model" --ids "$ids" -o "$folder/got" "$@" \
        >"$folder/log" 2>&1 || fail "$what: $(cat "$folder/log")"
    cmp -s "$folder/got" "$folder/want" || fail "$what: other logits"
}

# same_text WHAT RANKS FLAG...
same_text()
{
    local what=$1 count=$2
    shift 2
    "$stoker" run "$model" -p "Once upon a time there was" -n 60 "$@" >"$folder/want.txt" 2>&1 ||
        fail "alone: $(cat "$folder/want.txt")"
    ranks "$count" "$stoker" run "$model" -p "Once upon a time there was" -n 60 "$@" \
        >"$folder/got.txt" 2>"$folder/log" || fail "$what: $(cat "$folder/log")"
    cmp -s "$folder/got.txt" "$folder/want.txt" || fail "$what: $(cat "$folder/got.txt")"
    [ -s "$folder/log" ] && fail "$what: not quiet: $(cat "$folder/log")"
}

# tight RANKS SPLIT MIB FLAG...: so much more than the least memory every rank can work with
tight()
{
    ranks "$1" "$stoker" logits "$model" --ids "$ids" -o "$folder/tight" --split "$2" -t 1 \
        --memory 2MiB "${@:4}" 2>&1 | sed -n 's/.*give --memory \([0-9]*\)MiB.*/\1/p' | sort -n | tail -n 1 |
        awk -v more="$3" '{ print $1 + more "MiB" }'
}
streams()
{
    grep -q 'experts fit into memory' "$folder/log" || fail "nothing is read: $(cat "$folder/log")"
}

part_same()
{
    "$stoker" logits "$model" --ids "$ids" -o "$folder/want" || fail "alone"
    same_logits "two" 2 -t 2
    same_logits "two, 1 and 7" 2 --split 1,7 -t 1
    same_logits "three, one row at a time" 3 --split 2,5,1 --batch 1 -t 1
    same_logits "four, in chunks" 4 --batch 9 -t 1
    same_logits "two with little memory" 2 --split 5,3 -t 1 -v --memory "$(tight 2 5,3 1)"
    streams
    same_logits "four with little memory" 4 --split 2,2,2,2 --batch 16 -t 1 -v \
        --memory "$(tight 4 2,2,2,2 1 --batch 16)"
    streams
    same_text "greedy" 2 --temp 0 -t 1
    same_text "greedy, four" 4 --temp 0 -t 1 --batch 7
    local kind
    for kind in --greedy --sampled; do
        ranks 2 "$stoker" bench "$model" --prompt 0 --gen 4 --quick "$kind" -t 1 -o json \
            >"$folder/got.txt" 2>"$folder/log" || fail "bench $kind: $(cat "$folder/log")"
        grep -qE '"logits_bytes_per_token": 4(\.0*)?,' "$folder/got.txt" ||
            fail "bench $kind: $(grep logits_bytes "$folder/got.txt")"
    done
    ranks 2 "$stoker" bench "$model" --prompt 0 --gen 4 --quick --sequences 5 -t 1 \
        >"$folder/got.txt" 2>"$folder/log" || fail "sequences: $(cat "$folder/log")"
    grep -q '^decode 4 of 5 sequences: ' "$folder/got.txt" || fail "sequences: $(cat "$folder/got.txt")"
    same_text "seeded" 3 --temp 0.9 --seed 7 -t 1
    same_text "a penalty and drafts" 2 --temp 0.9 --seed 8 --repeat-penalty 1.1 --draft 4 -t 1
    same_text "a long penalty" 2 --temp 0.9 --seed 8 --repeat-penalty 1.1 --repeat-last 300 -t 1
    same_text "drafts" 2 --temp 0 --draft 4 --split 3,5 -t 1
    same_text "little memory" 2 --temp 0.7 --seed 3 --batch 8 -t 1 --ctx 512 --split 4,4 \
        --memory "$(tight 2 4,4 4)"
    # Half-precision hops are not exact, but near: the text goes on.
    ranks 2 "$stoker" run "$model" -p "Once upon a time there was" -n 20 --temp 0 --hop f16 -t 1 \
        >"$folder/got.txt" 2>&1 || fail "f16"
    grep -q "Once upon a time there was a" "$folder/got.txt" || fail "f16: $(cat "$folder/got.txt")"
    "$stoker" ppl "$model" -f "$text" --ctx 64 --chunks 2 -t 1 >"$folder/want.txt" 2>&1
    ranks 2 "$stoker" ppl "$model" -f "$text" --ctx 64 --chunks 2 -t 1 >"$folder/got.txt" 2>&1
    cmp -s "$folder/want.txt" "$folder/got.txt" || fail "ppl: $(cat "$folder/got.txt")"
    part_gpu
    part_sidecar
}

# Experts on a GPU compute what the CPU would. The head stays on the CPU of the last rank, which
# could not compute again what came from elsewhere.
part_gpu()
{
    "$stoker" topo | grep -q '^vulkan 0' || return
    same_logits "GPUs" 2 --split 4,4 -t 1 --device vulkan --gpu-experts 50 --gpu-layers 0 \
        --gpu-head on -v
    [ "$(grep -c '64 of 128 experts on ' "$folder/log")" -eq 2 ] ||
        fail "GPUs: $(cat "$folder/log")"
}

# Ranks read their layers from the middle of a sidecar, and keep records of their own beside it.
part_sidecar()
{
    cp "$model" "$folder/packed.gguf"
    "$stoker" pack "$folder/packed.gguf" >"$folder/log" 2>&1 || fail "pack: $(cat "$folder/log")"
    model=$folder/packed.gguf same_logits "a sidecar" 3 --split 2,3,3 -t 1 -v \
        --memory "$(tight 3 2,3,3 1)"
    grep -q 'rank 2 on .*packed experts are used' "$folder/log" ||
        fail "a sidecar: not used: $(cat "$folder/log")"
    [ -e "$folder/packed.stoker-usage-5-8" ] || fail "a sidecar: $(ls "$folder")"
}

# ---- flights ----

part_flights()
{
    local count
    for count in 2 3; do
        ranks $count "$flights" >"$folder/log" 2>&1 || fail "$count ranks: $(cat "$folder/log")"
        grep -q 'PASSED' "$folder/log" || fail "$count ranks: nothing was tested"
        ranks $count "$flights" "$model" >"$folder/log" 2>&1 ||
            fail "$count ranks, a loss: $(cat "$folder/log")"
    done
}

# ---- usage ----

# refused WHAT CODE PATTERN MPIRUN-ARGUMENT...
refused()
{
    local what=$1 code=$2 pattern=$3 got
    shift 3
    "${mpirun[@]}" "$@" </dev/null >"$folder/out" 2>"$folder/log"
    got=$?
    [ "$got" -eq "$code" ] || fail "$what: exit code $got: $(cat "$folder/log")"
    grep -qE -- "$pattern" "$folder/log" || fail "$what: $(cat "$folder/log")"
    [ -s "$folder/out" ] && fail "$what: wrote $(head -c 200 "$folder/out")"
    pgrep -f "$folder" >/dev/null && fail "$what: processes are left"
}

part_usage()
{
    local logits=("$stoker" logits "$model" --ids "1,2,3" -o "$folder/usage")
    refused "a split for three" 2 "'3,3,2' is for 3 ranks, there are 2" \
        -n 2 "${logits[@]}" --split 3,3,2
    [ "$(grep -c 'is for 3 ranks' "$folder/log")" -eq 1 ] || fail "said more than once"
    refused "a split of nine" 2 "is 9 layers, the model has 8" -n 2 "${logits[@]}" --split 4,5
    refused "a split of words" 2 "not a list of layer counts" -n 2 "${logits[@]}" --split most
    refused "too many ranks" 1 "9 ranks for the model's 8 layers" -n 9 "${logits[@]}" -t 1
    refused "a command for one" 2 "this command is for one process" -n 2 "$stoker" tokenize "$model"
    refused "a rank without memory" 1 'rank 1 on .*: .*give --memory' \
        -n 1 "${logits[@]}" --split 4,4 : -n 1 "${logits[@]}" --split 4,4 --memory 9MiB
    grep -q 'rank 1 on .*: out of memory' "$folder/log" || fail "rank 0 does not name it"
    cp "$model" "$folder/other.gguf"
    # One weight differs.
    printf '\x55' | dd of="$folder/other.gguf" bs=1 seek=$(($(stat -c %s "$model") / 64 * 32)) \
        conv=notrunc status=none
    local half=$(($(stat -c %s "$model") / 2))
    head -c "$half" /dev/zero | tr '\0' '\125' |
        dd of="$folder/other.gguf" bs=64k oflag=seek_bytes seek="$half" conv=notrunc status=none
    refused "another model" 1 'rank 0 on .* has another model than rank 1 on .*: hash [0-9a-f]{16}' \
        -n 1 "${logits[@]}" : -n 1 "$stoker" logits "$folder/other.gguf" --ids 1 -o "$folder/usage"
    refused "no model" 1 'rank 1 on .*: .*No such file' \
        -n 1 "${logits[@]}" : -n 1 "$stoker" logits "$folder/none.gguf" --ids 1 -o "$folder/usage"
    # The library with MPI is not there, or is another one.
    mkdir "$folder/moved"
    cp "$stoker" "$folder/moved/stoker"
    refused "no library" 1 'Open MPI started 2 processes, but libstoker-mpi.so is not beside' \
        -n 2 "$folder/moved/stoker" logits "$model" --ids 1 -o "$folder/usage"
    refused "no library there" 1 'rank 1 on .*: .*libstoker-mpi.so is not beside' \
        -n 1 "${logits[@]}" : -n 1 "$folder/moved/stoker" logits "$model" --ids 1 -o "$folder/usage"
    head -c 4096 /dev/zero >"$folder/moved/libstoker-mpi.so"
    refused "a bad library" 1 'libstoker-mpi.so cannot be loaded: .*invalid ELF' \
        -n 2 "$folder/moved/stoker" logits "$model" --ids 1 -o "$folder/usage"
    "$folder/moved/stoker" run "$model" -p a -n 1 >"$folder/out" 2>&1 || fail "alone without it"
    # The launcher's variables alone are not enough.
    "$stoker" run "$model" -p a -n 1 --split 3,5 >"$folder/out" 2>&1 || fail "alone with --split"
}

# ---- lost ----

# Starts an endless run in the background and waits until all ranks work: $job, $pids of ranks 1...
start_endless()
{
    cp "$model" "$folder/endless.gguf" # a name to find the processes by
    mkfifo "$folder/text" 2>/dev/null
    "${mpirun[@]}" -n 3 "$stoker" run "$folder/endless.gguf" -p "Once" -t 1 \
        --ctx 100000 -n 99000 --temp 1 --seed 1 </dev/null >"$folder/out" 2>"$folder/log" &
    job=$!
    for _ in $(seq 100); do
        [ -s "$folder/out" ] && [ "$(wc -c <"$folder/out")" -gt 200 ] && break
        sleep 0.1
    done
    mapfile -t pids < <(pgrep -f "^$stoker run $folder/endless.gguf" | sort -n)
    [ ${#pids[@]} -eq 3 ] || fail "${#pids[@]} processes: $(cat "$folder/log")"
}

# lost WHAT SIGNAL PATTERN
lost()
{
    local what=$1 pattern=$3
    start_endless
    kill "-$2" "${pids[1]}"
    wait "$job" && fail "$what: the job ended well"
    grep -qE -- "$pattern" "$folder/log" || fail "$what: $(cat "$folder/log")"
    for _ in $(seq 50); do
        pgrep -f "^$stoker run $folder/endless.gguf" >/dev/null || return
        sleep 0.1
    done
    fail "$what: processes are left"
    kill -9 "${pids[@]}" 2>/dev/null
}

part_lost()
{
    lost "killed" KILL 'rank 1 .*on node|rank 1 on .* the job ends'
    lost "stopped" STOP 'rank 1 on .* has not been heard of for [0-9.]+ s; the job ends'
}

# ---- link ----

# Two "machines" on one, and the cable between them is pulled.
part_link()
{
    local job setup launcher
    export STK_NET="stkt$$"
    net=$(dirname "$0")/../bench/cluster.sh
    cp "$model" "$folder/link.gguf"
    setup=$("$net" -- setup 2) || { echo "no network namespaces" && exit 77; }
    trap '"$net" -- remove 2; rm -rf "$folder"' EXIT
    read -ra launcher <<<"$setup"
    same "$("${launcher[@]}" "$stoker" run "$model" -p "Once upon" -n 30 --temp 0 -t 1 \
        </dev/null 2>"$folder/log")"
    "${launcher[@]}" "$stoker" run "$folder/link.gguf" -p "Once" -t 1 --ctx 100000 -n 99000 \
        --temp 1 --seed 1 </dev/null >"$folder/out" 2>"$folder/log" &
    job=$!
    for _ in $(seq 300); do
        sleep 0.1
        [ "$(wc -c <"$folder/out")" -gt 200 ] && break
    done
    [ "$(wc -c <"$folder/out")" -gt 200 ] || fail "cut link: did not start: $(cat "$folder/log")"
    ip link set "${STK_NET}v2" down
    wait "$job" && fail "cut link: the job ended well"
    grep -qE 'rank [01] on '"$STK_NET"'[12] has not been heard of' "$folder/log" ||
        fail "cut link: $(cat "$folder/log")"
    for _ in $(seq 100); do
        pgrep -f "^$stoker run $folder/link.gguf" >/dev/null || return
        sleep 0.1
    done
    fail "cut link: processes are left"
}
same() # TEXT
{
    [ "$1" = "$("$stoker" run "$model" -p "Once upon" -n 30 --temp 0)" ] ||
        fail "over namespaces: $1: $(cat "$folder/log")"
}

text=$(dirname "$0")/data/little_women.txt
"part_$part"
[ $failures -eq 0 ] || { echo "$failures failed" && exit 1; }
