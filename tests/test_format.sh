#!/usr/bin/env bash
# test_format.sh: every C file is as clang-format writes it, every script as shellcheck likes it.
# Versions of clang-format differ, so only 14 is asked. Skipped (77) when neither tool is there.
set -u
cd "$(dirname "$0")/.." || exit 1
asked=0 failed=0

for format in clang-format-14 clang-format; do
    "$format" --version 2>/dev/null | grep -q 'version 14\.' || continue
    asked=1
    find . -path './build*' -prune -o -path './.git' -prune -o -name '*.[ch]' -print0 |
        xargs -0 "$format" --dry-run -Werror || failed=1
    break
done
if command -v shellcheck >/dev/null; then
    asked=1
    shellcheck --severity=warning demo check .ci/run tests/*.sh || failed=1
    grep -lr '^#!.*bash' scripts | xargs shellcheck --severity=warning || failed=1
fi
[ $asked -eq 1 ] || exit 77
exit $failed
