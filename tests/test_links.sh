#!/usr/bin/env bash
# test_links.sh: every relative link of the documentation leads to a file that exists.
set -u
cd "$(dirname "$0")/.." || exit 1
mapfile -t pages < <(find . -name '*.md' -not -path './build*' -not -path './.git/*')
broken=0 links=0
for page in "${pages[@]}"; do
    while read -r link; do
        links=$((links + 1))
        [ -e "$(dirname "$page")/${link%%#*}" ] && continue
        echo "$page: leads to $link, which does not exist"
        broken=$((broken + 1))
    done < <(grep -oE '\]\([^)#: ][^): ]*\)' "$page" | sed 's/^](//; s/)$//')
done
[ "$links" -gt 0 ] || { echo "no links found" && exit 1; }
exit $((broken > 0))
