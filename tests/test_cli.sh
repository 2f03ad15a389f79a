#!/usr/bin/env bash
# test_cli.sh STOKER MODEL: exit codes, messages, pipes, full disks, Ctrl-C and determinism.
set -u
stoker=$(realpath "$1") model=$(realpath "$2")
[ -r "$model" ] || exit 77
. "$(dirname "$0")/program_test.sh"

# --- help, versions, mistakes
expect 0 --help
commands=$(sed -n 's/^  \([a-z]*\) .*/\1/p' out)
[ "$(echo "$commands" | wc -w)" -ge 5 ] || fail "--help lists too few commands"
expect 0 --version
prints '^stoker [0-9]+\.[0-9]+'
expect 2
says 'Usage: stoker'
expect 2 rnu
says "did you mean 'run'"
expect 2 frobnicate
says "no command 'frobnicate'"
expect 2 --verbose run
expect 2 help frobnicate
for command in $commands; do
    expect 0 "$command" --help
    prints "^Usage: stoker $command "
    expect 0 help "$command"
    prints "^Usage: stoker $command "
    expect 2 "$command" --no-such-option
    [ -s out ] && fail "stoker $command --no-such-option wrote to standard output"
done
expect 2 run
says 'missing argument'
expect 2 run "$model" -p x --tmep 1
says 'did you mean --temp?'
expect 2 run "$model" -p x --temp hot
says "--temp: 'hot' is not a number from 0 to 100"
expect 2 run "$model" -p x --temp
says '--temp needs a value'
expect 2 run "$model" -p x --threads 0
says "--threads: '0' is not a whole number from 1"
expect 2 run "$model" -p x --top 1
says 'several options'
expect 2 run "$model" -p x --json=1
says 'takes no value'
expect 2 run "$model" more -p x
says "'more' is one argument too many"
expect 2 run "$model" -p x -Z
says 'no option -Z'
expect 2 run "$model" -p x -f y
says 'only one of'
expect 2 run "$model" --chat --json
expect 2 logits "$model" --ids 1
says '-o FILE'
expect 2 logits "$model" -o file
says 'either --ids or --prompt'
expect 2 ppl "$model"
says '-f FILE'

# --- files that are not there or not models
expect 1 run no-such.gguf -p x
says no-such.gguf
expect 1 run "$model" -f no-such.txt
says 'no-such.txt: No such file'
echo 'not a model at all, just some text' >text.gguf
expect 1 run text.gguf -p x
says text.gguf
expect 1 run "$PWD" -p x

for command in run logits ppl tokenize; do # a download that broke off
    head -c $(($(wc -c <"$model") / 2)) "$model" >half.gguf
    case $command in
    run) expect 1 run half.gguf -p x ;;
    logits) expect 1 logits half.gguf -p x -o x ;;
    ppl) expect 1 ppl half.gguf -f text.gguf ;;
    tokenize) expect 1 tokenize half.gguf x ;;
    esac
    says 'half.gguf: '
    says 'the file is truncated, download it again'
done
expect 1 run "$model" -f "$PWD"
says "$PWD: Is a directory"
if [ "$(id -u)" -ne 0 ]; then # root reads everything
    echo text >secret && chmod 0 secret
    expect 1 run "$model" -f secret
    says 'secret: Permission denied'
fi
expect 1 run "$model" -p ''
says 'the prompt is empty; give'
expect 1 run "$model" -f /dev/null
says '/dev/null is empty; give'
expect 1 run "$model"
says 'standard input is empty; give'
[ -s out ] && fail 'an empty prompt wrote to standard output'

# --- standard streams that the caller closed: the next file opened must not take their place
"$stoker" run "$model" --chat -n 2 >out 2>err <&-
[ $? -eq 1 ] || fail 'a chat without standard input'
says 'standard input: Bad file descriptor'
"$stoker" logits "$model" --ids 1,2 -o loud --verbose 2>err && "$stoker" logits "$model" --ids 1,2 -o mute --verbose 2>&-
[ -s err ] && same loud mute 'messages without standard error went into the logits'
"$stoker" tokenize "$model" x 2>err >&- && fail 'tokens without standard output'
says 'standard output: Bad file descriptor'
"$stoker" run "$model" --chat -n 2 >out 2>err <"$PWD"
[ $? -eq 1 ] || fail 'a chat with a folder'
says 'standard input: Is a directory'

# --- tokenize and synth on the shared modules
expect 2 tokenize "$model" x --jsno
says 'did you mean --json?'
expect 2 tokenize "$model" x --ids --json
says '--ids and --json exclude each other'
yes 'once upon a time' | head -n 20000 >long.txt
"$stoker" tokenize "$model" <long.txt 2>err | head -n 1 >out
code=${PIPESTATUS[0]}
[ "$code" -eq 0 ] && [ ! -s err ] || fail "tokenize into a closed pipe ended with $code"
expect 2 synth tiyn -o x.gguf
says "did you mean 'tiny'?"
expect 2 synth tiny
says '-o FILE'
expect 2 synth tiny -o x.gguf --vocab 5
says "--vocab: '5' is not a whole number from 259"
expect 0 synth tiny -o x.gguf --vocab 300
expect 1 synth tiny -o x.gguf --vocab 300
says 'x.gguf: exists already; --force replaces it'
expect 0 synth tiny -o x.gguf --vocab 300 --force
if [ -c /dev/full ]; then
    "$stoker" tokenize "$model" hello >/dev/full 2>err && fail 'tokenize to a full disk'
    says 'No space left'
fi

# --- what must not be written over
cp "$model" own.gguf
for write in 'logits own.gguf --ids 1 -o' 'run own.gguf -p x -n 1 --record-trace' \
    'bench own.gguf --quick --out' 'bench own.gguf --quick --trace'; do
    expect 1 $write ./own.gguf
    says './own.gguf: that is the model; write to another file'
done
expect 1 pack own.gguf -o own.gguf
says 'own.gguf: exists and is not a sidecar'
same "$model" own.gguf 'a model was written over'
mkfifo fifo
expect 1 synth tiny -o fifo --vocab 300 --force
says 'fifo: is not a regular file'
expect 1 pack own.gguf -o fifo
[ -p fifo ] || fail 'a pipe was replaced by a file'

# --- packed experts that are not there
least=(run "$model" -p x -n 1 --ctx 64 --batch 1 --memory)
expect 1 "${least[@]}" 1
memory=$(sed -n 's/.*give --memory \([0-9]*\)MiB.*/\1/p' err)
expect 0 "${least[@]}" $((memory + 2))MiB --sidecar no-such.stoker
says 'no-such.stoker: No such file or directory; experts come from the GGUF'

# --- generation
prompt='Once upon a time'
expect 0 run "$model" -p "$prompt" -n 20 --seed 5
prints "^$prompt"
[ "$(wc -c <out)" -gt 20 ] || fail 'nothing was generated'
[ -s err ] && fail 'a plain run wrote to standard error'
cp out first
expect 0 run "$model" -p "$prompt" -n 20 --seed 5
same first out 'the same seed gave another text'
expect 0 run "$model" -p "$prompt" -n 20 --seed 5 --threads 1 --batch 1
same first out 'threads or batch size changed the text'
printf %s "$prompt" >prompt.txt
expect 0 run "$model" -f prompt.txt -n 20 --seed 5
same first out '-f gave another text than -p'
"$stoker" run "$model" -n 20 --seed 5 <prompt.txt >out 2>err
same first out 'standard input gave another text than -p'
"$stoker" run "$model" -p - -n 20 --seed 5 <prompt.txt >out 2>err
same first out '-p - gave another text than -p'
expect 0 run "$model" -p "$prompt" -n 20 --seed 6
cmp -s first out && fail 'another seed gave the same text'
expect 0 run "$model" -p "$prompt" -n 20 --seed 0
cp out zero
expect 0 run "$model" -p "$prompt" -n 20 --seed 0
same zero out 'seed 0 is not a seed'
expect 0 run "$model" -p x -n 1 --seed 9007199254740991 --json
prints '"seed": 9007199254740991,'
expect 0 run "$model" -p x -n 1 --json
prints '"seed": [0-9]{1,10},'
for seed in -1 1.5 9007199254740992; do
    expect 2 run "$model" -p x --seed $seed
    says "--seed: '$seed' is not a whole number from 0 to 9007199254740991 or auto"
done
expect 0 run "$model" -p "$prompt" -n 20 --seed 5 --no-echo
printf '%s%s\n' "$prompt" "$(cat out)" >joined
same first joined '--no-echo is not the text without its prompt'
expect 0 run "$model" -p "$prompt" -n 5 --temp 0 --verbose
says 'tokens/s'
expect 0 run "$model" -p "$prompt" -n 4 --temp 0 --threads 3 --nodes 2 --verbose
says 'MiB of its experts read by its own threads'
expect 0 run "$model" -p "$prompt" -n 4 --temp 0 --threads 3 --nodes 3 --json
prints '"nodes": \[(\{"own_bytes": [1-9][0-9]*, "other_bytes": [0-9]+\}(, )?){3}\]'
expect 2 run "$model" -p x --nodes 65
says "--nodes: '65' is not"
expect 0 run "$model" -p "$prompt" -n 4 --temp 0 --json
prints '^\{"text": ".*"prompt_ids": \[.*"ids": \[[0-9]+, [0-9]+, [0-9]+, [0-9]+\], "finish": "length"'
expect 1 run "$model" -p "$prompt $prompt $prompt" -n 4 --ctx 4
says "but only 4 of the context's 4 are free; --ctx gives it more"
[ -s out ] && fail 'a prompt that does not fit was printed'
expect 0 run "$model" -p "$prompt" --ctx 24 --temp 0 --json
prints '"finish": "(context|end)"'
expect 1 run "$model" -p "$prompt" --cpu-mask no-such-mask

# --- drafts change no token
for temp in 0 0.8; do
    for draft in 0 1 8; do
        expect 0 run "$model" -p "$prompt" -n 120 --temp $temp --seed 7 --draft $draft --json
        sed 's/"finish".*//' out >tokens.$draft
        grep -o '"draft": {[^}]*}' out >draft.$draft
    done
    same tokens.0 tokens.1 "--draft 1 changed the text at temperature $temp"
    same tokens.0 tokens.8 "--draft 8 changed the text at temperature $temp"
    grep -q '"guessed": 0, "right": 0, "passes": 119' draft.0 || fail "without a draft: $(cat draft.0)"
    [ $temp = 0.8 ] || grep -q '"right": [1-9]' draft.8 || fail 'no guess was right'
done
expect 0 run "$model" -p "$prompt" -n 20 --draft 4 --verbose
says 'guessed tokens were right'
expect 2 run "$model" -p x --draft 65
says "--draft: '65' is not a whole number from 0 to 64"
chat() { printf 'Hello\nHello\nHello\n' | "$stoker" run "$model" --chat -n 30 --temp 0 "$@" 2>err; }
chat >out && chat --draft 6 >drafted || fail 'chat with a draft failed'
same out drafted 'a draft changed the chat'

# --- chat through a pipe
printf 'Hello\n/help\n/reset\nHello\n/exit\nnot read\n' |
    "$stoker" run "$model" --chat -n 8 --temp 0 >out 2>err || fail 'chat failed'
says /system
[ "$(wc -l <out)" -ge 2 ] || fail 'two questions got fewer than two lines'
half=$(($(wc -c <out) / 2))
cmp -s <(head -c $half out) <(tail -c $half out) || fail '/reset did not forget the first turn'

# --- logits and tokens
expect 0 tokenize "$model" "$prompt" --ids --bos
tr -s ' \n' ',,' <out >ids
expect 0 logits "$model" -p "$prompt" -o by-text
expect 0 logits "$model" --ids @ids -o by-ids
same by-text by-ids 'tokenize and logits disagree about the tokens'
ids=$(sed 's/,*$//' ids)
expect 0 logits "$model" --ids "$ids" -o by-row --batch 1 --threads 1
same by-text by-row 'batch size or threads changed the logits'
count=$(echo "$ids" | tr ',' '\n' | grep -c .)
[ $(($(wc -c <by-text) % (count * 4))) -eq 0 ] || fail "$count rows do not divide the file"
"$stoker" logits "$model" --ids "$ids" -o - >out 2>err
same by-text out '-o - wrote something else'
"$stoker" logits "$model" --ids "${ids%%,*}" -o - 2>err | cmp -s - <(head -c $(($(wc -c <by-text) / count)) by-text) ||
    fail 'the first row depends on later tokens'
for bad in 1,x 99999999 1,-2 ''; do
    expect 1 logits "$model" --ids "$bad" -o bad
    [ -e bad ] && fail "--ids '$bad' left a file"
done
says 'no tokens'

# --- perplexity
for _ in 1 2 3 4 5 6; do
    echo 'Once upon a time there was a little dog. The dog liked to run and play in the park.'
done >story.txt
expect 0 ppl "$model" -f story.txt --ctx 32
prints '^perplexity [0-9]+\.[0-9]+ \+/- [0-9]+\.[0-9]+ \([0-9]+ chunks of 32 tokens'
cp out first
expect 0 ppl "$model" -f story.txt --ctx 32 --batch 5 --threads 1
same first out 'batch size or threads changed the perplexity'
expect 0 ppl "$model" -f story.txt --ctx 32 --chunks 1 --json
prints '^\{"perplexity": [0-9.]+,.*"chunks": 1, "scored_tokens": 15,'
expect 1 ppl "$model" -f story.txt --ctx 8192
says 'one chunk needs 8192'

# --- outputs that fail
"$stoker" run "$model" -p "$prompt" -n 200 2>err | head -c 10 >out
code=${PIPESTATUS[0]}
[ "$code" -eq 0 ] && [ ! -s err ] || fail "a closed pipe ended with $code"
if [ -c /dev/full ]; then
    "$stoker" run "$model" -p "$prompt" -n 5 >/dev/full 2>err && fail 'a full disk went unnoticed'
    says 'No space left'
    "$stoker" --help >/dev/full 2>err && fail '--help to a full disk went unnoticed'
    says 'No space left'
    expect 1 logits "$model" --ids 1,2 -o /dev/full
    says '/dev/full: No space left'
    [ -c /dev/full ] || fail '/dev/full was removed'
fi
(ulimit -f 1 && exec "$stoker" logits "$model" --ids 1,2,3 -o limited 2>err)
[ $? -eq 1 ] || fail 'a file-size limit is not a failure'
says 'limited: File too large'
[ -e limited ] && fail 'a partial file was left'
if [ -c /dev/full ]; then
    expect 1 run "$model" -p x -n 2 --record-trace /dev/full
    says '/dev/full: the trace could not be written: No space left'
fi
expect 1 logits "$model" --ids 1 -o no-such-folder/file
says 'no-such-folder/file: No such file'

printf 'stoker-trace 1 2 8 1\n0 1\n1 1\n0 1\n1 1\n' >short.trace
expect 1 replay short.trace
says 'short.trace: 2 tokens, and the first 100 do not count'
expect 0 replay short.trace --warmup 1 --slots 2
prints '^ +2 .* 100\.00$'
expect 1 replay "$PWD"
says "$PWD: Is a directory"

# --- Ctrl-C ends at once what leaves nothing half done: more than a pipe holds was read, so it runs
mkfifo trace
"$stoker" replay trace >out 2>err &
exec 4<>trace
{ echo 'stoker-trace 1 8 32 1' && yes '0 1' | head -n 50000; } >&4
kill -INT $!
wait $!
[ $? -eq 130 ] || fail 'Ctrl-C did not end replay'
exec 4>&-

# --- Ctrl-C and requests to end: once the prompt is there, generation has begun
mkfifo pipe
for signal in INT:130 TERM:143 HUP:129; do
    "$stoker" run "$model" -p "$prompt" -n 20000 --ctx 20000 --temp 0 >pipe 2>err &
    exec 3<pipe
    IFS= read -r -n 1 -u 3 first_byte
    kill -"${signal%:*}" $!
    { printf %s "$first_byte" && cat <&3; } >out
    wait $!
    code=$?
    exec 3<&-
    [ $code -eq "${signal#*:}" ] || fail "SIG$signal ended with $code"
    prints "^$prompt"
    [ -z "$(tail -c 1 out)" ] || fail 'an interrupted text does not end with a newline'
done

finish
