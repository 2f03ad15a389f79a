#include "engine/draft.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    NGRAM_DEFAULT = 3,
    DEPTH_MAX = 16,      // places that agree with the text further back count as this deep
    SHARE_ONE = 1 << 16, // shares are in 1/SHARE_ONE
    SHARE_SHIFT = 4,     // and forget with a half-life of 11 guesses
};

// The n-grams of one length: an open hash table from each distinct one to where it last ended. An
// entry is the index of the token behind the n-gram, which is never 0; 0 is a free entry. Twice as
// many entries as tokens, so a free one is always near.
struct stk_draft {
    stk_draft_options options;
    uint32_t table_mask;                   // entries - 1
    uint32_t *tables[STK_DRAFT_NGRAM_MAX]; // [n - 1][entries]
    int32_t *history;                      // [history_max]
    uint32_t length;
    uint32_t match_length, match_position; // of the whole text; length 0: none
    uint32_t match_depth;                  // tokens that agree there, match_length..DEPTH_MAX
    uint32_t shares[DEPTH_MAX + 1];        // by depth: guesses that came true lately
};

stk_status stk_draft_open(const stk_draft_options *options, stk_draft **out)
{
    stk_draft_options o = *options;
    if (o.ngram_max == 0)
        o.ngram_max = NGRAM_DEFAULT;
    if (o.tokens_max == 0 || o.tokens_max > STK_DRAFT_TOKENS_MAX ||
        o.ngram_max > STK_DRAFT_NGRAM_MAX || o.history_max == 0 ||
        o.history_max > STK_DRAFT_HISTORY_MAX || !(o.worth >= 0 && o.worth <= 1))
        return STK_INVALID;
    stk_draft *draft = calloc(1, sizeof *draft);
    if (!draft)
        return STK_NO_MEMORY;
    draft->options = o;
    draft->table_mask = 1;
    while (draft->table_mask < 2 * o.history_max)
        draft->table_mask = 2 * draft->table_mask + 1;
    draft->history = malloc(o.history_max * sizeof *draft->history);
    bool is_whole = draft->history != NULL;
    for (uint32_t n = 0; n < o.ngram_max; n++) {
        draft->tables[n] = malloc(((size_t)draft->table_mask + 1) * sizeof *draft->tables[n]);
        is_whole &= draft->tables[n] != NULL;
    }
    if (!is_whole) {
        stk_draft_close(&draft);
        return STK_NO_MEMORY;
    }
    stk_draft_reset(draft);
    *out = draft;
    return STK_OK;
}

void stk_draft_close(stk_draft **draft)
{
    if (!*draft)
        return;
    for (uint32_t n = 0; n < STK_DRAFT_NGRAM_MAX; n++)
        free((*draft)->tables[n]);
    free((*draft)->history);
    free(*draft);
    *draft = NULL;
}

static void forget(stk_draft *draft)
{
    for (uint32_t n = 0; n < draft->options.ngram_max; n++)
        memset(draft->tables[n], 0, ((size_t)draft->table_mask + 1) * sizeof *draft->tables[n]);
    draft->length = 0;
    draft->match_length = draft->match_position = 0;
}

void stk_draft_reset(stk_draft *draft)
{
    forget(draft);
    for (uint32_t d = 0; d <= DEPTH_MAX; d++)
        draft->shares[d] = SHARE_ONE / 2; // neither trusted nor given up
}

// The entry of the n-gram before `end`: its last place, or the free one where it belongs.
static uint32_t *find(const stk_draft *draft, uint32_t n, uint32_t end)
{
    const int32_t *gram = draft->history + end - n;
    uint64_t hash = n;
    for (uint32_t i = 0; i < n; i++)
        hash = (hash ^ (uint32_t)gram[i]) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t at = (uint32_t)(hash >> 32);
    for (;; at++) {
        uint32_t *entry = &draft->tables[n - 1][at & draft->table_mask];
        if (*entry == 0 || memcmp(draft->history + *entry - n, gram, n * sizeof *gram) == 0)
            return entry;
    }
}

void stk_draft_accept(stk_draft *draft, int32_t token)
{
    if (draft->match_length > 0) {
        uint32_t *share = &draft->shares[draft->match_depth];
        bool is_true = draft->history[draft->match_position] == token;
        *share = *share - (*share >> SHARE_SHIFT) + (is_true ? SHARE_ONE >> SHARE_SHIFT : 0u);
    }
    if (draft->length == draft->options.history_max)
        forget(draft);
    // The n-grams before this token now have something behind them.
    uint32_t end = draft->length;
    for (uint32_t n = 1; n <= draft->options.ngram_max && n <= end; n++)
        *find(draft, n, end) = end;
    draft->history[draft->length++] = token;
    draft->match_length = 0;
    for (uint32_t n = 1; n <= draft->options.ngram_max && n < draft->length; n++) {
        uint32_t position = *find(draft, n, draft->length);
        if (position == 0)
            break; // a longer n-gram has not stood before either
        draft->match_length = n;
        draft->match_position = position;
    }
    uint32_t depth = draft->match_length, position = draft->match_position;
    while (depth > 0 && depth < DEPTH_MAX && depth < position &&
           draft->history[position - 1 - depth] == draft->history[draft->length - 1 - depth])
        depth++;
    draft->match_depth = depth;
}

uint32_t stk_draft_match(const stk_draft *draft, uint32_t *position)
{
    *position = draft->match_position;
    return draft->match_length;
}

uint32_t stk_draft_propose(const stk_draft *draft, uint32_t limit, int32_t *tokens)
{
    if (draft->match_length == 0)
        return 0;
    if (limit > draft->options.tokens_max)
        limit = draft->options.tokens_max;
    // Token k holds only when all before it do: the chance is taken as share^k.
    double share = (double)draft->shares[draft->match_depth] / SHARE_ONE, chance = 1;
    uint32_t from = draft->match_position, period = draft->length - from, count = 0;
    for (; count < limit; count++) {
        chance *= share;
        if (chance < (double)draft->options.worth)
            break;
        tokens[count] = count < period ? draft->history[from + count] : tokens[count - period];
    }
    return count;
}
