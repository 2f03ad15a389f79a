#!/usr/bin/env bash
# bench/gpu.sh [OPTION...] STOKER [MODEL...]: what a machine's graphics card makes of a model.
#
# For each MODEL (the 4B and 21B shapes with random weights, made when there is room): the tests of
# the device, equality of experts computed there, then prompt and decode with the CPU alone, all on
# the card, and with 25 and 50 % of the model's size as --gpu-memory. "card %": bytes a decoded token
# needs, as counted in the CPU's run on the same text, x tokens/s / the card's own bandwidth (topo
# --probe); only where all is on the card.
#   -o FOLDER   where the table, every report and the models go (gpu-figures)
#   -d DEVICE   as of --device (vulkan)
#   -p N -n N   tokens of the prompt (512) and decoded (128)
#   -r N        times each point is measured (3)
#   -c COMMAND  a peer that prints its speed, {} for the model: takes turns with "all on the card"
set -u
usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2; }
folder=gpu-figures device=vulkan prompt=512 gen=128 reps=3 peer=
while getopts o:d:p:n:r:c: option; do
    case $option in
    o) folder=$OPTARG ;;
    d) device=$OPTARG ;;
    p) prompt=$OPTARG ;;
    n) gen=$OPTARG ;;
    r) reps=$OPTARG ;;
    c) peer=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 1 ] || usage
stoker=$(realpath "$1")
shift
[ -x "$stoker" ] || { echo "no such program: $stoker" >&2; exit 2; }
failed=0
mkdir -p "$folder" || exit 2
folder=$(realpath "$folder")
table=$folder/table.txt
: >"$table"

say() { printf '%s\n' "$*" | tee -a "$table"; }

# column NAME FILE: of the rows of a CSV report, one value per line
column()
{
    awk -F, -v name="$1" 'NR == 1 {for (i = 1; i <= NF; i++) if ($i == name) at = i; next} at {print $at}' "$2"
}

# models: those given, or the shapes that fit on the disk
models=("$@")
if [ ${#models[@]} -eq 0 ]; then
    free_gib=$(($(df -Pk "$folder" | awk 'NR == 2 {print $4}') >> 20))
    for shape in 4b:4 21b:15; do
        path=$folder/${shape%:*}.gguf
        if [ ! -e "$path" ] && [ "$free_gib" -lt "${shape#*:}" ]; then
            say "${shape%:*}: left out, $free_gib GiB are free here"
            continue
        fi
        [ -e "$path" ] || "$stoker" synth "${shape%:*}" -o "$path" >/dev/null || exit 1
        models+=("$path")
    done
fi

# --- the card
"$stoker" topo --probe >"$folder/topo.txt" 2>/dev/null
"$stoker" run "${models[0]}" -p a -n 1 --temp 0 --no-usage --device "$device" --verbose >/dev/null 2>"$folder/device.txt" ||
    { cat "$folder/device.txt" >&2; exit 1; }
say "$(sed -n 's/^stoker: vulkan: //p' "$folder/device.txt" | head -n 1)"
name=$(sed -n 's/^stoker: vulkan: \(.*\) ([a-z]*, .*/\1/p' "$folder/device.txt" | head -n 1)
within=$(awk -v name="$name" '/^vulkan/ {on = index($0, name) != 0} on && $1 == "copies" {
    for (i = 2; i <= NF; i++) if ($i == "read") print $(i - 1)}' "$folder/topo.txt" | head -n 1)
grep -A 4 -F -- "$name" "$folder/topo.txt" | grep copies | tee -a "$table"

# --- does it compute what the CPU computes
tests=$(dirname "$stoker")
if [ -e "$tests/CTestTestfile.cmake" ]; then
    ctest --test-dir "$tests" -R '^(vulkan|golden_vulkan|golden_models)' >"$folder/tests.txt" 2>&1 || failed=1
    say "tests: $(grep 'tests passed' "$folder/tests.txt")"
fi

# measure NAME OPTION...: a report and its row
measure()
{
    local what=$1 csv="$folder/$base-${1// /-}.csv" speeds share=- needed
    shift
    if ! "$stoker" bench "$model" --prompt "$prompt" --gen "$gen" --reps "$reps" -o csv "$@" >"$csv" 2>"$csv.log"; then
        say "$(printf '%-14s %-16s failed: %s' "$base" "$what" "$(tail -n 1 "$csv.log")")"
        failed=1
        return
    fi
    mapfile -t speeds < <(column tokens_per_s_median "$csv")
    [ "$what" = cpu ] && bytes=$(column bytes_per_token "$csv" | sed -n 2p)
    needed=${bytes:-0}
    [ "$what" = 'all on the card' ] && [ -n "$within" ] &&
        share=$(awk "BEGIN {printf \"%.0f\", 100 * $needed * ${speeds[1]:-0} / ($within * 1048576)}")
    say "$(printf '%-14s %-16s %10s %10s %8s' "$base" "$what" "${speeds[0]}" "${speeds[1]:-}" "$share")"
}

say "$(printf '%-14s %-16s %10s %10s %8s' model where "prompt $prompt" "decode $gen" 'card %')"
for model in "${models[@]}"; do
    base=$(basename "$model" .gguf) bytes=
    mib=$(($(stat -L -c %s "$model") >> 20))
    for where in cpu "$device"; do
        "$stoker" logits "$model" --ids 1,7,42,99,3,250 --device "$where" --gpu-layers 0 --gpu-head off \
            -o "$folder/$base.$where.logits" 2>"$folder/$base.$where.log" || failed=1
    done
    if cmp -s "$folder/$base.cpu.logits" "$folder/$base.$device.logits"; then
        say "$base: experts on the card give the CPU's logits, to the bit"
    else
        say "$base: experts on the card give OTHER logits than the CPU"
        failed=1
    fi
    rm -f "$folder/$base".*.logits
    all=(--device "$device" --gpu-layers 99 --gpu-head on --gpu-experts 100)
    measure cpu --device cpu
    measure 'all on the card' "${all[@]}"
    [ -z "$peer" ] || "$stoker" bench "$model" --prompt 0 --gen "$gen" --reps "$reps" "${all[@]}" \
        --compare "${peer//\{\}/$model}" 2>"$folder/$base-peer.log" | sed -n '/taken in turns/,$p' | tee -a "$table"
    for percent in 25 50; do
        measure "$percent % of it" --device "$device" --gpu-memory "$((mib * percent / 100 + 1))MiB"
    done
done
[ $failed -eq 0 ] || say 'something failed: see the files'
exit $failed
