#!/bin/sh
# The perplexity of a text against what llama.cpp says of the same model, text and chunks.
#
# usage: test_perplexity_text.sh STOKER MODEL TEXT CTX CHUNKS EXPECTED   CHUNKS: a number or auto
# Passes within 0.5 % of EXPECTED.
stoker=$1 model=$2 text=$3 ctx=$4 chunks=$5 expected=$6
json=$("$stoker" ppl "$model" -f "$text" --ctx "$ctx" --chunks "$chunks" --json) || exit 1
printf '%s\n' "$json"
printf '%s\n' "$json" | awk -v expected="$expected" '
    match($0, /"perplexity": *[0-9.e+-]+/) {
        found = substr($0, RSTART, RLENGTH)
        sub(/.*: */, "", found)
        off = found / expected - 1
        printf "perplexity %s, expected %s: %+.3f %% off\n", found, expected, 100 * off
        ok = off > -0.005 && off < 0.005
    }
    END { exit !ok }'
