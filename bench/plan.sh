#!/usr/bin/env bash
# plan.sh STOKER MODEL [predict|grid]: what `stoker plan` predicts against what `stoker run`
# measures, one line each. Speeds of the machine are measured anew before every prediction, because
# a rented machine's bandwidth halves and doubles from one minute to the next.
#   predict: memory limits x threads, prediction against measurement
#   grid:    threads x batch x guesses under one limit, where the plan's own choice should be near
#            the best
# Variables: MEMORIES, THREADS, BATCHES, GUESSES, GEN, REPS (lists are separated by spaces).
set -eu
stoker=${1:?stoker} model=${2:?model} what=${3:-predict}
gen=${GEN:-64} reps=${REPS:-3}
text=$(mktemp)
trap 'rm -f "$text"' EXIT
head -c 2200 "$(dirname "$0")/../tests/data/little_women.txt" >"$text" # about 512 tokens

# Medians of the prompt's and the new tokens' speed.
measure() # FLAG...
{
    for ((i = 1; i <= reps; i++)); do
        "$stoker" run "$model" -f "$text" -n "$gen" --temp 1 --seed $i --json --quiet "$@"
    done | python3 -c '
import json, statistics, sys
runs = [json.loads(line) for line in sys.stdin]
print(*("%.1f" % statistics.median(r[k]["tokens_per_s"] for r in runs)
        for k in ("prefill", "decode")))'
}

predict() # FLAG...
{
    "$stoker" plan "$model" --refresh --quiet --json "$@" | python3 -c '
import json, sys
p = json.load(sys.stdin)
print("%.1f %.1f %d %d %d" % (p["prompt"]["tokens_per_s"], p["decode"]["tokens_per_s"],
                              p["threads"], p["batch"], p["guess_layers"]))'
}

compare()
{
    printf '%-8s %7s %6s %7s | %8s %8s %6s | %8s %8s %6s\n' memory threads batch guesses \
        planned prompt off planned decode off
    for memory in ${MEMORIES:-auto 1GiB 700MiB}; do
        for threads in ${THREADS:-2 1}; do
            flags=(--memory "$memory" --threads "$threads" --ctx 4096)
            read -r p d t batch guess < <(predict "${flags[@]}")
            read -r mp md < <(measure "${flags[@]}" --batch "$batch" --guess-layers "$guess")
            awk -v m="$memory" -v t="$t" -v b="$batch" -v g="$guess" -v p="$p" -v mp="$mp" \
                -v d="$d" -v md="$md" 'BEGIN {
                printf "%-8s %7s %6s %7s | %8.1f %8.1f %+5.0f%% | %8.1f %8.1f %+5.0f%%\n", m, t, b,
                    g, p, mp, 100 * (p / mp - 1), d, md, 100 * (d / md - 1) }'
        done
    done
}

# The work that plans are made for: prompt and new tokens, in seconds.
grid()
{
    for memory in ${MEMORIES:-700MiB}; do
        flags=(--memory "$memory" --ctx 4096)
        read -r _ _ t batch guess < <(predict "${flags[@]}")
        printf 'memory %s, planned: %s threads, batch %s, %s guessed layers\n' "$memory" "$t" \
            "$batch" "$guess"
        for threads in ${THREADS:-1 2}; do
            for rows in ${BATCHES:-64 256 512}; do
                for layers in ${GUESSES:-0 1 3 5}; do
                    read -r p d < <(measure "${flags[@]}" --threads "$threads" --batch "$rows" \
                        --guess-layers "$layers")
                    chosen=
                    [ "$threads $rows $layers" = "$t $batch $guess" ] && chosen=' <- planned'
                    awk -v t="$threads" -v b="$rows" -v g="$layers" -v p="$p" -v d="$d" \
                        -v c="$chosen" 'BEGIN {
                        printf "%d threads, batch %4d, %d layers: prompt %7.1f, decode %6.1f " \
                            "tokens/s, work %6.2f s%s\n", t, b, g, p, d, 512 / p + 256 / d, c }'
                done
            done
        done
    done
}

case $what in
predict) compare ;;
grid) grid ;;
*) echo "plan.sh: predict or grid, not '$what'" >&2 && exit 2 ;;
esac
