#include "model/tokenizer_internal.h"

#include <stdlib.h>

static bool is_met_in_text(const stk_tokenizer *tokenizer, int32_t id, bool all)
{
    uint8_t type = tokenizer->types[id];
    if (stk_token_len(tokenizer, id) == 0)
        return false;
    return type == STK_TOKEN_USER_DEFINED ||
           (all && (type == STK_TOKEN_CONTROL || type == STK_TOKEN_UNKNOWN));
}

// By bytes, then by id: of two tokens with one text the first in the vocabulary is found.
static int compare_tokens(const void *left, const void *right, void *user)
{
    const stk_tokenizer *tokenizer = user;
    int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;
    size_t a_len = stk_token_len(tokenizer, a), b_len = stk_token_len(tokenizer, b);
    int order = memcmp(stk_token_data(tokenizer, a), stk_token_data(tokenizer, b),
                       a_len < b_len ? a_len : b_len);
    if (order)
        return order;
    if (a_len != b_len)
        return a_len < b_len ? -1 : 1;
    return a < b ? -1 : 1;
}

stk_status stk_special_set_build(const stk_tokenizer *tokenizer, bool all, stk_special_set *out)
{
    stk_special_set set = {0};
    for (size_t id = 0; id < tokenizer->count; ++id)
        set.count += is_met_in_text(tokenizer, (int32_t)id, all);
    if (set.count) {
        set.ids = malloc(set.count * sizeof *set.ids);
        if (!set.ids)
            return STK_NO_MEMORY;
    }
    size_t filled = 0;
    for (size_t id = 0; id < tokenizer->count; ++id)
        if (is_met_in_text(tokenizer, (int32_t)id, all))
            set.ids[filled++] = (int32_t)id;
    if (set.count > 1)
        qsort_r(set.ids, set.count, sizeof *set.ids, compare_tokens, (void *)(uintptr_t)tokenizer);
    for (size_t i = 0; i < set.count; ++i)
        ++set.first[(uint8_t)stk_token_data(tokenizer, set.ids[i])[0] + 1];
    for (size_t b = 0; b < 256; ++b)
        set.first[b + 1] += set.first[b];
    *out = set;
    return STK_OK;
}

void stk_special_set_free(stk_special_set *set)
{
    free(set->ids);
    *set = (stk_special_set){0};
}

// The first index in [low, high) whose byte at `depth` is >= `byte`; all are longer than depth.
static size_t lower_bound(const stk_tokenizer *tokenizer, const stk_special_set *set, size_t low,
                          size_t high, size_t depth, unsigned byte)
{
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if ((uint8_t)stk_token_data(tokenizer, set->ids[mid])[depth] < byte)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// The longest token that text[0..len) begins with: narrows the sorted range byte by byte.
static int32_t longest_at(const stk_tokenizer *tokenizer, const stk_special_set *set,
                          const char *text, size_t len_bytes)
{
    size_t low = set->first[(uint8_t)text[0]], high = set->first[(uint8_t)text[0] + 1];
    int32_t best = -1;
    for (size_t depth = 1; low < high; ++depth) {
        if (stk_token_len(tokenizer, set->ids[low]) == depth) {
            best = set->ids[low];
            while (low < high && stk_token_len(tokenizer, set->ids[low]) == depth)
                ++low;
        }
        if (depth == len_bytes)
            break;
        unsigned byte = (uint8_t)text[depth];
        low = lower_bound(tokenizer, set, low, high, depth, byte);
        high = lower_bound(tokenizer, set, low, high, depth, byte + 1);
    }
    return best;
}

int32_t stk_special_find(const stk_tokenizer *tokenizer, const stk_special_set *set,
                         const char *text, size_t len_bytes, size_t *at)
{
    if (set->count == 0)
        return -1;
    for (size_t i = *at; i < len_bytes; ++i) {
        unsigned byte = (uint8_t)text[i];
        if (set->first[byte] == set->first[byte + 1])
            continue;
        int32_t id = longest_at(tokenizer, set, text + i, len_bytes - i);
        if (id >= 0) {
            *at = i;
            return id;
        }
    }
    return -1;
}
