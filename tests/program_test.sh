#!/usr/bin/env bash
# program_test.sh: what the tests of the program share; sourced, with `stoker` set. Works in a folder
# of its own, which is removed at the end. A test ends with `finish`.
: "${stoker:?}"
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0

fail()
{
    printf 'FAILED: %s\n' "$*"
    sed 's/^/  stdout: /' out 2>/dev/null | head -c 900
    sed 's/^/  stderr: /' err 2>/dev/null | head -c 600
    failures=$((failures + 1))
}

# expect CODE ARGUMENT...: runs stoker, leaves its output in out and err
expect()
{
    local code=$1 got
    shift
    "$stoker" "$@" >out 2>err </dev/null
    got=$?
    [ $got -eq "$code" ] || fail "stoker $* ended with $got, not $code"
}

says() { grep -qF -- "$1" err || fail "standard error lacks: $1"; }
prints() { grep -qE -- "$1" out || fail "standard output lacks: $1"; }
same() { cmp -s "$1" "$2" || fail "$3"; }

finish()
{
    [ $failures -eq 0 ] || { echo "$failures failures"; exit 1; }
    exit 0
}
