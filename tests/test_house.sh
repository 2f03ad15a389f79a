#!/usr/bin/env bash
# test_house.sh CC [CFLAG...]: the rules of docs/design.md that a program can check: who includes
# whom, which room has which library, headers that stand alone, words product code must not use.
# Fix the code, or, where the house really changes, the tables below and docs/design.md.
set -u
cd "$(dirname "$0")/.." || exit 1
compiler=("$@")
failures=0

fail() { printf '%s\n' "$*" && failures=$((failures + 1)); }

# room: the rooms it may include beside itself
declare -A may_include=(
    [base]=""
    [model]="base"
    [topology]="base"
    [scheduler]="base"
    [cpu]="model base"
    [vulkan]="shaders model base"
    [store]="model base"
    [cluster]="model base"
    [engine]="store scheduler topology cpu vulkan cluster model base"
    [cli]="engine store scheduler topology cpu vulkan cluster model base"
)
# header of a library (a pattern): the rooms that may see it
libraries="
hwloc.h hwloc/*     topology base
yaml.h              base
pcre2.h             model
liburing.h          store topology
xxhash.h            store
vulkan/*            vulkan
mpi.h               cluster
jansson.h           cli
histedit.h          cli
argp.h              cli
*intrin.h cpuid.h arm_neon.h cpu"

# file to room: runtime/cli/main.c is in cli, cpu/x86/x86.h in cpu
room_of()
{
    local path=${1#runtime/}
    echo "${path%%/*}"
}

check_library() # FILE ROOM HEADER
{
    local words word allowed
    while read -ra words; do
        allowed=false
        for word in "${words[@]}"; do
            [ "$word" = "$2" ] && allowed=true
        done
        for word in "${words[@]}"; do
            [[ $word == *[.*]* ]] || continue
            # shellcheck disable=SC2053 # a pattern
            [[ $3 == $word ]] && ! $allowed &&
                fail "$1: <$3> is not for room '$2' (allowed: ${words[*]})"
        done
    done <<<"$libraries"
}

check_includes() # FILE
{
    local room header other
    room=$(room_of "$1")
    while read -r header; do
        case $header in
        \<*) check_library "$1" "$room" "${header//[<>]/}" ;;
        *..*) fail "$1: includes $header by a relative path" ;;
        \"*/*)
            other=${header#\"}
            if [ "${other%%/*}" != "$room" ]; then
                [[ " ${may_include[$room]} " == *" ${other%%/*} "* ]] ||
                    fail "$1: room '$room' must not include $header"
                [[ $header == *_impl.h* || $header == *_private.h* || $header == *_internal.h* ]] &&
                    fail "$1: $header is private to its room"
            fi
            ;;
        esac
    done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*([<"][^>"]*[>"]).*/\1/p' "$1")
}

# A header without include guard is a template that .c files configure; it need not stand alone.
check_header() # FILE
{
    local path=${1#runtime/} guard errors
    [[ $(head -n 1 "$1") == "// $path: "* ]] || fail "$1: the first line must be '// $path: ...'"
    guard=$(sed -nE 's/^#ifndef (STK_[A-Z0-9_]*_H)$/\1/p' "$1" | head -n 1)
    if [ -z "$guard" ]; then
        grep -rlF "\"$path\"" --include='*.h' runtime cpu | grep -q . &&
            fail "$1: has no include guard, yet headers include it"
        return
    fi
    path=${path%.h} path=${path^^}
    [ "$guard" = "STK_${path//[^A-Z0-9]/_}_H" ] || fail "$1: the guard is $guard"
    errors=$("${compiler[@]}" -std=c11 -D_GNU_SOURCE -I. -Iruntime -fsyntax-only -x c "$1" 2>&1) &&
        return
    # The header of an optional library that is not installed, or of another processor; clang wants
    # the flags of an instruction set where gcc only needs them for code.
    local unmet='fatal error: (arm_neon\.h|vulkan/|mpi\.h|event2/|.*file not found)'
    unmet+='|NEON intrinsics not available|invalid output size for constraint'
    grep -qE "$unmet" <<<"$errors" ||
        fail "$1: does not compile alone: $(head -n 3 <<<"$errors")"
}

# forbid PATTERN WHY FILE...: outside of comments; a word before the bracket stands alone.
forbid()
{
    local pattern=$1 why=$2 found
    shift 2
    found=$(sed -sE 's%//.*%%; F' "$@" | awk '
        NR % 2 == 1 { name = $0; next } { print name ": " $0 }' | grep -E -- "$pattern") || return
    fail "$why:"$'\n'"$found"
}

rooms=()
for dir in runtime/* cpu vulkan topology scheduler bench; do
    [ -n "$(find "$dir" -name '*.c' -print -quit 2>/dev/null)" ] || continue
    rooms+=("$dir")
    [ -n "${may_include[$(room_of "$dir/")]+known}" ] ||
        fail "$dir: a room that tests/test_house.sh does not know"
done
mapfile -t files < <(find "${rooms[@]}" -name '*.[ch]' | sort)
mapfile -t outside_cli < <(printf '%s\n' "${files[@]}" | grep -vE '^(runtime/cli|bench)/')
mapfile -t not_threads < <(printf '%s\n' "${files[@]}" |
    grep -vE '^runtime/(base/|store/io_|cluster/mpi/pulse)')
[ ${#files[@]} -gt 50 ] || fail "only ${#files[@]} files found: the test looks in the wrong place"

for file in "${files[@]}"; do
    check_includes "$file"
    case $file in
    *.h) check_header "$file" ;;
    *) head -n 1 "$file" | grep -qE '^(//|#include)' ||
        fail "$file: begins neither with a comment nor with an include" ;;
    esac
done
# The exceptions, as docs/design.md names them: the user's cache folder, and whether a launcher
# started this process.
mapfile -t without_environment < <(printf '%s\n' "${files[@]}" |
    grep -vxE 'runtime/(cli/cache_path|cluster/launcher)\.c')
forbid '\b(secure_)?(getenv|setenv|putenv|unsetenv) *\(' 'environment variables are no interface' \
    "${without_environment[@]}"
forbid '\b(system|popen|execl[pe]?|execvp?e?) *\(' 'product code runs no other programs' \
    "${files[@]}"
forbid '\b(gets|sprintf|strcat|strtok|atoi|atof) *\(' 'unbounded or unchecked' \
    "${files[@]}"
forbid '\b(printf|puts|putchar|fprintf|fputs|perror) *\(' 'only cli prints' "${outside_cli[@]}"
forbid '\b(abort|exit|_exit) *\(' 'only cli ends the process' "${outside_cli[@]}"
forbid '\bpthread_create *\(' 'only base, the readers of store and the pulse of cluster create threads' \
    "${not_threads[@]}"

[ $failures -eq 0 ] || { echo "$failures rules broken" && exit 1; }
echo "${#files[@]} files in ${#rooms[@]} rooms keep the rules"
