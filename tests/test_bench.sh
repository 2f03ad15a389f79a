#!/usr/bin/env bash
# test_bench.sh STOKER MODEL PYTHON CHECKER: every format of stoker bench, comparing, wrong values.
set -u
stoker=$(realpath "$1") model=$(realpath "$2") python=$3 checker=$(realpath "$4")
[ -r "$model" ] || exit 77
. "$(dirname "$0")/program_test.sh"

# bench CODE ARGUMENT...: a small run; output in out and err
bench()
{
    local code=$1
    shift
    expect "$code" bench "$model" --quick "$@"
}

check() { "$python" "$checker" "$@" >checked 2>err || fail "check $*"; }
measured() { [ "$(cat checked)" = "$1" ] || fail "measured '$(cat checked)', not '$1'"; }

# --- JSON: all points, in order
bench 0 -o json --prompt 20,0 --gen 5 --depth 0,40 --threads 1,2 --nodes 2
check json out
measured 'prompt 20 0 1 0
decode 5 0 1 0
prompt 20 40 1 0
decode 5 40 1 0
prompt 20 0 2 0
decode 5 0 2 0
prompt 20 40 2 0
decode 5 40 2 0'

# --- several sequences at once
bench 0 -o json --prompt 8 --gen 5 --sequences 3 --threads 1
check json out
grep -qE '"sequences": 3' out || fail "no sequences: $(grep sequences out)"
bench 0 --prompt 0 --gen 5 --sequences 40 --batch 4 --threads 1
grep -qE '^decode 5 of 40 sequences: [0-9.]+ tokens/s together, [0-9.]+ each$' out ||
    fail "sequences: $(cat out)"
bench 1 --prompt 0 --gen 8 --sequences 256 --depth 60000 --memory 64MiB --threads 1
says 'KV cache and scratch'

# --- a memory limit, a file of text, another program
bench 1 --memory 1MiB
least=$(sed -n 's/.*give --memory \([0-9]*\)MiB or more.*/\1/p' err)
[ -n "$least" ] || fail 'no least memory was named'
limit=$((least + 4)) # holds part of the experts
printf 'The sea was calm and the little boat went far away from home. ' >text.txt
bench 0 -o json --prompt 0 --gen 5 --threads 2 --memory ${limit}MiB -f text.txt --reps 4 --out report.json \
    --trace trace.json --compare 'echo run >>runs; echo "speed: 12.5 tok/s"; echo more >&2'
[ -s out ] && fail 'something was written besides --out'
check json report.json
measured "decode 5 0 2 $((limit << 20))
compare decode 5 12.5 "'echo run >>runs; echo "speed: 12.5 tok/s"; echo more >&2'
[ "$(wc -l <runs)" -eq 4 ] || fail "the command ran $(wc -l <runs) times, not 4"
check trace trace.json

# --- experts on a GPU: CPU and GPU work at the same time, and the trace shows it
if "$stoker" topo | grep -q '^vulkan 0'; then
    bench 0 --prompt 0 --gen 5 --threads 1 --device vulkan --gpu-experts 50 --trace gpu.json
    check gpu_trace gpu.json
    bench 0 --prompt 0 --gen 5 --threads 1 --device vulkan --gpu-experts 50 --gpu-layers 99 --gpu-head on \
        --trace gpu.json -o json
    check gpu_tiers out
    check gpu_blocks gpu.json
    bench 0 --prompt 0 --gen 5 --threads 1 --device vulkan --gpu-layers 3 --gpu-head on --trace gpu.json
    check gpu_layers gpu.json
    grep -q 'GPU uploads' trace.json && fail 'a GPU in the trace of a run without one'
fi

# --- warming up decodes as many tokens more, all recorded: 9 + 3 passes of 5 + 1 of 5 with clocks
bench 0 -o json --prompt 0 --gen 5 --warmup 9 --memory ${limit}MiB --record-trace experts.trace
layers=$(head -n 1 experts.trace | cut -d ' ' -f 3)
[ "$(grep -c '' experts.trace)" -eq $((1 + 29 * layers)) ] ||
    fail "$(grep -c '' experts.trace) lines were recorded for 29 tokens of $layers layers"
"$stoker" replay experts.trace --warmup 9 >replayed 2>err || fail 'the recorded trace cannot be replayed'

# --- a text that repeats is drafted; without a draft nothing is said of one
bench 0 -o json --prompt 0 --gen 60 --depth 10 --threads 1 --draft 4 -f text.txt
check draft out
measured '60 64 4'
bench 0 --prompt 0 --gen 60 --depth 70 --draft 4 --draft-worth 0
grep -qE 'of [1-9][0-9]* drafted tokens accepted' out || fail 'the table lacks the draft'
bench 0 -o json --prompt 0 --gen 5
grep -q draft out && fail 'a draft nobody asked for'

# --- the other formats
bench 0 -o csv --prompt 20 --gen 5
check csv out
measured "prompt 20 $(basename "$model")
decode 5 $(basename "$model")"
bench 0 -o html --prompt 20 --gen 5 --threads 2 --compare 'echo "<b>&" 3 tok/s'
check html out
bench 0 --prompt 20 --gen 5 --compare 'echo 3 tok/s'
for word in '^prompt +20 ' '^decode +5 ' 'last-level cache' 'MB per token' 'ratio$'; do
    grep -qE "$word" out || fail "the table lacks $word"
done

# --- the prompt's experts are those of its text, not of one token repeated
bench 0 -o json --prompt 64 --gen 0
"$python" -c '
import json
for layer in json.load(open("out"))["results"][0]["layers"][:-1]:
    assert sum(n > 0 for n in layer["expert_use"]) > 8, layer["expert_use"]' ||
    fail 'the prompt wakes few experts'

# --- a device config; flags win, and values are those of run
printf 'memory: %sMiB\ncpu: {threads: 2, mask: scalar}\nsampling: {seed: 1}\n' "$limit" >device.yaml
bench 0 -o json --prompt 0 --gen 5 --config device.yaml --threads 1
check json out
measured "decode 5 0 1 $((limit << 20))"
grep -q '"kernels": "scalar"' out || fail 'the config did not choose the kernels'
printf 'cpu:\n  threads: 1,2\n' >device.yaml
bench 2 --config device.yaml
says "device.yaml:2:12: cpu.threads: '1,2' is not a whole number"

# --- wrong values
for bad in --prompt=x --gen=-1 "--depth=1," "--threads=1,,2" --prompt= --gen=99999999999 --reps=2 \
    --memory=huge "--memory=1GiB," --output=xml; do
    bench 2 "$bad"
    says "--${bad:2:3}"
    [ -s out ] && fail "$bad wrote to standard output"
done
bench 2 --prompt 0 --gen 0
says 'nothing to measure'
bench 2 --gen 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17
says 'more than 16'
bench 1 --gen 5 --prompt 0 --compare 'echo nothing; exit 3'
says 'exit code 3'
bench 1 --gen 5 --prompt 0 --compare false
says 'after printing: nothing'
bench 1 --gen 5 --prompt 0 --compare 'echo nothing of interest'
says 'printed no speed'
bench 1 --gen 5 --prompt 0 --compare 'kill -9 $$'
says 'signal 9'
bench 1 --gen 5 --prompt 0 --out no-such-folder/file
says 'no-such-folder/file: No such file'
bench 1 --gen 5 --prompt 0 --trace no-such-folder/file
says 'no-such-folder/file: No such file'
if [ -c /dev/full ]; then
    bench 1 --gen 5 --prompt 0 --record-trace /dev/full
    says '/dev/full: the trace could not be written: No space left'
fi
bench 1 -f no-such.txt
says no-such.txt
: >empty.txt
bench 1 -f empty.txt
says 'no tokens'
"$stoker" bench no-such.gguf >out 2>err && fail 'a missing model went unnoticed'
says no-such.gguf

finish
