#!/usr/bin/env bash
# bench/soak.sh MINUTES MODEL [STOKER [SEED]]: random prompts at the least memory the model runs in,
# compared to the bit with everything resident. STOKER is meant to be a build with sanitizers.
#
# Every round draws a prompt and the ways of running it: memory (least, or a little more), batch,
# threads, source, reads, guesses, policy, warm or cold start. Ends with 1 at the first difference,
# failure or sanitizer report, and keeps what is needed to see it again.
set -u
[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
minutes=$1 model=$(realpath "$2") stoker=$(realpath "${3:-build/stoker}") seed=${4:-$$}
[ -r "$model" ] && [ -x "$stoker" ] || { echo "no such model or program" >&2; exit 2; }
dir=$(mktemp -d "$PWD/soak-XXXXXX")
RANDOM=$seed
end=$((SECONDS + minutes * 60)) rounds=0 tokens=0
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1} TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

stop()
{
    printf '%s\n' "$*" "seed $seed, round $rounds; see $dir" >&2
    exit 1
}
pick() { eval "picked=\${$((1 + RANDOM % $#))}"; }

cp "$model" "$dir/packed.gguf" || stop "cannot copy the model"
ln "$dir/packed.gguf" "$dir/plain.gguf"
"$stoker" pack "$dir/packed.gguf" 2>"$dir/err" || stop "pack failed"

# The least --memory in MiB for the options given, as the program says when it refuses.
least_for()
{
    "$stoker" logits "$dir/plain.gguf" -o "$dir/none" --memory 1MiB "$@" 2>&1 |
        sed -n 's/.*give --memory \([0-9]*\)MiB or more.*/\1/p'
}

while [ $SECONDS -lt $end ]; do
    count=$((1 + RANDOM % 96)) ids=
    for ((i = 0; i < count; i++)); do ids+=$((RANDOM % 256)),; done
    ids=${ids%,}
    pick 1 1 3 16 64 && batch=$picked
    common=(--ids "$ids" --batch "$batch")
    "$stoker" logits "$dir/plain.gguf" -o "$dir/resident" "${common[@]}" --no-usage --no-sidecar \
        2>"$dir/err" || stop "the resident run failed: $(tail -n 3 "$dir/err")"
    for way in 1 2 3; do
        options=("${common[@]}")
        pick plain packed && file=$dir/$picked.gguf
        pick auto io_uring threads && options+=(--io "$picked")
        pick 0 1 3 && options+=(--guess-layers "$picked")
        pick cycle lfu lru scores && options+=(--cache-policy "$picked")
        pick 1 2 3 && options+=(--threads "$picked")
        pick 1 4 16 64 && options+=(--inflight "$picked")
        pick '' '' --buffered && options+=(${picked:+"$picked"})
        pick '' --no-usage && options+=(${picked:+"$picked"})
        pick 0 0 1 4 && more=$picked
        least=$(least_for "${options[@]}")
        [ -n "$least" ] || stop "no least memory for ${options[*]}"
        # What the sanitizers hold differs a little from run to run.
        for extra in 0 1 2; do
            "$stoker" logits "$file" -o "$dir/limited" "${options[@]}" \
                --memory $((least + more + extra))MiB --verbose 2>"$dir/err"
            code=$?
            [ $code -ne 0 ] && grep -q 'or more, or a smaller' "$dir/err" || break
        done
        [ $code -eq 0 ] || stop "ended with $code: $file ${options[*]}: $(tail -n 5 "$dir/err")"
        grep -qE 'Sanitizer|runtime error' "$dir/err" && stop "a finding: $file ${options[*]}"
        cmp -s "$dir/resident" "$dir/limited" || stop "other logits: $file ${options[*]}"
        tokens=$((tokens + count))
    done
    rounds=$((rounds + 1))
done
grep -q 'experts fit' "$dir/err" || stop "the last run held every expert: nothing was tested"
printf '%s minutes, seed %s: %s prompts, %s tokens at the least memory, none differs\n' \
    "$minutes" "$seed" $rounds $tokens
rm -rf "$dir"
