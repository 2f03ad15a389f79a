#include "model/tokenizer_internal.h"

#include <stdlib.h>

static const uint32_t rank_none = UINT32_MAX, position_none = UINT32_MAX;

static size_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return (size_t)(h ^ h >> 32);
}

static size_t hash_bytes(const char *bytes, size_t len_bytes)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ len_bytes; // FNV-1a
    for (size_t i = 0; i < len_bytes; ++i)
        h = (h ^ (uint8_t)bytes[i]) * UINT64_C(0x100000001b3);
    return mix(h);
}

static size_t slots_for(size_t count)
{
    size_t slots = 16;
    while (slots / 4 * 3 < count)
        slots *= 2;
    return slots;
}

int32_t stk_bpe_find(const stk_tokenizer *tokenizer, const char *bytes, size_t len_bytes)
{
    const stk_bpe_table *table = &tokenizer->bpe;
    for (size_t i = hash_bytes(bytes, len_bytes);; ++i) {
        int32_t id = table->words[i & table->word_mask];
        if (id < 0)
            return -1;
        if (stk_token_len(tokenizer, id) == len_bytes &&
            memcmp(stk_token_data(tokenizer, id), bytes, len_bytes) == 0)
            return id;
    }
}

static const stk_bpe_merge *merge_find(const stk_bpe_table *table, uint32_t left, uint32_t right)
{
    for (size_t i = mix((uint64_t)left << 32 | right);; ++i) {
        const stk_bpe_merge *merge = &table->merges[i & table->merge_mask];
        if (merge->left == UINT32_MAX)
            return NULL;
        if (merge->left == left && merge->right == right)
            return merge;
    }
}

// Text becomes control tokens only by name, never by merging, whatever the file says.
static bool is_merged(const stk_tokenizer *tokenizer, size_t id)
{
    return tokenizer->types[id] != STK_TOKEN_CONTROL && tokenizer->types[id] != STK_TOKEN_UNKNOWN &&
           stk_token_len(tokenizer, (int32_t)id) > 0;
}

static stk_status words_build(stk_tokenizer *tokenizer)
{
    stk_bpe_table *table = &tokenizer->bpe;
    size_t slots = slots_for(tokenizer->count);
    table->words = malloc(slots * sizeof *table->words);
    if (!table->words)
        return STK_NO_MEMORY;
    table->word_mask = slots - 1;
    memset(table->words, 0xff, slots * sizeof *table->words);
    for (size_t id = 0; id < tokenizer->count; ++id) {
        if (!is_merged(tokenizer, id))
            continue;
        const char *bytes = stk_token_data(tokenizer, (int32_t)id);
        size_t len_bytes = stk_token_len(tokenizer, (int32_t)id);
        if (stk_bpe_find(tokenizer, bytes, len_bytes) >= 0)
            continue; // the first of two equal tokens stands
        size_t i = hash_bytes(bytes, len_bytes);
        while (table->words[i & table->word_mask] >= 0)
            ++i;
        table->words[i & table->word_mask] = (int32_t)id;
    }
    for (int b = 0; b < 256; ++b) {
        char byte = (char)(uint8_t)b;
        table->byte_ids[b] = stk_bpe_find(tokenizer, &byte, 1);
    }
    return STK_OK;
}

static void merge_insert(stk_bpe_table *table, stk_bpe_merge merge)
{
    if (merge_find(table, merge.left, merge.right))
        return; // the first of two equal merges stands
    size_t i = mix((uint64_t)merge.left << 32 | merge.right);
    while (table->merges[i & table->merge_mask].left != UINT32_MAX)
        ++i;
    table->merges[i & table->merge_mask] = merge;
}

// Decodes "left right" into bytes[STK_TOKEN_BYTES_MAX], the left part's length into *left_len.
// Returns the whole length, or 0 when it is malformed. The alphabet has no space.
static size_t merge_decode(stk_str text, char *bytes, size_t *left_len)
{
    const char *space = text.len_bytes ? memchr(text.data, ' ', text.len_bytes) : NULL;
    if (!space || text.len_bytes > STK_TOKEN_BYTES_MAX)
        return 0;
    stk_str left = {text.data, (size_t)(space - text.data)};
    stk_str right = {space + 1, text.len_bytes - left.len_bytes - 1};
    *left_len = stk_byte_alphabet_decode(left, bytes);
    size_t right_len = stk_byte_alphabet_decode(right, bytes + *left_len);
    return *left_len && right_len ? *left_len + right_len : 0;
}

stk_status stk_bpe_table_build(stk_tokenizer *tokenizer, const stk_vocab_source *source,
                               const stk_log *log)
{
    stk_bpe_table *table = &tokenizer->bpe;
    stk_status status = words_build(tokenizer);
    if (status != STK_OK)
        return status;
    size_t slots = slots_for(source->merge_count), ignored = 0;
    table->merges = malloc(slots * sizeof *table->merges);
    char *bytes = malloc(STK_TOKEN_BYTES_MAX);
    if (!table->merges || !bytes) {
        free(bytes);
        return STK_NO_MEMORY;
    }
    table->merge_mask = slots - 1;
    memset(table->merges, 0xff, slots * sizeof *table->merges);
    for (size_t rank = 0; rank < source->merge_count; ++rank) {
        size_t left_len = 0, len = merge_decode(source->merges[rank], bytes, &left_len);
        int32_t left = len ? stk_bpe_find(tokenizer, bytes, left_len) : -1;
        int32_t right = len ? stk_bpe_find(tokenizer, bytes + left_len, len - left_len) : -1;
        int32_t result = len ? stk_bpe_find(tokenizer, bytes, len) : -1;
        if (left < 0 || right < 0 || result < 0) {
            ++ignored;
            continue;
        }
        merge_insert(table, (stk_bpe_merge){(uint32_t)left, (uint32_t)right, (uint32_t)rank,
                                            (uint32_t)result});
    }
    free(bytes);
    if (ignored)
        stk_warn(log, "tokenizer.ggml.merges: %zu of %zu ignored, they are not of the vocabulary",
                 ignored, source->merge_count);
    return STK_OK;
}

void stk_bpe_table_free(stk_bpe_table *table)
{
    free(table->words);
    free(table->merges);
    *table = (stk_bpe_table){0};
}

static stk_status scratch_reserve(stk_bpe_scratch *scratch, size_t len)
{
    if (len <= scratch->capacity)
        return STK_OK;
    size_t capacity = scratch->capacity ? scratch->capacity : 256;
    while (capacity < len)
        capacity *= 2;
    stk_bpe_scratch_free(scratch);
    scratch->ids = malloc(4 * capacity * sizeof *scratch->ids);
    scratch->heap = malloc(3 * capacity * sizeof *scratch->heap);
    if (!scratch->ids || !scratch->heap) {
        stk_bpe_scratch_free(scratch);
        return STK_NO_MEMORY;
    }
    scratch->prev = scratch->ids + capacity;
    scratch->next = scratch->prev + capacity;
    scratch->ranks = scratch->next + capacity;
    scratch->capacity = capacity;
    return STK_OK;
}

void stk_bpe_scratch_free(stk_bpe_scratch *scratch)
{
    free(scratch->ids);
    free(scratch->heap);
    *scratch = (stk_bpe_scratch){.steps = scratch->steps};
}

static void heap_push(stk_bpe_scratch *scratch, uint64_t key)
{
    uint64_t *heap = scratch->heap;
    size_t i = scratch->heap_count++;
    for (; i && heap[(i - 1) / 2] > key; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = key;
}

static uint64_t heap_pop(stk_bpe_scratch *scratch)
{
    uint64_t *heap = scratch->heap, top = heap[0], key = heap[--scratch->heap_count];
    size_t count = scratch->heap_count, i = 0;
    for (size_t child = 1; child < count; child = 2 * i + 1) {
        child += child + 1 < count && heap[child + 1] < heap[child];
        if (heap[child] >= key)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
    return top;
}

// Looks up the pair that starts at `at` and queues it if it can merge.
static void pair_update(const stk_tokenizer *tokenizer, stk_bpe_scratch *scratch, uint32_t at)
{
    uint32_t right = scratch->next[at];
    scratch->ranks[at] = rank_none;
    if (right == position_none)
        return;
    const stk_bpe_merge *merge = merge_find(&tokenizer->bpe, scratch->ids[at], scratch->ids[right]);
    if (!merge)
        return;
    scratch->ranks[at] = merge->rank;
    heap_push(scratch, (uint64_t)merge->rank << 32 | at);
}

static void pair_merge(const stk_tokenizer *tokenizer, stk_bpe_scratch *scratch, uint32_t at)
{
    uint32_t gone = scratch->next[at], after = scratch->next[gone];
    scratch->ids[at] = merge_find(&tokenizer->bpe, scratch->ids[at], scratch->ids[gone])->result;
    scratch->ranks[gone] = rank_none;
    scratch->next[at] = after;
    if (after != position_none)
        scratch->prev[after] = at;
    pair_update(tokenizer, scratch, at);
    if (at)
        pair_update(tokenizer, scratch, scratch->prev[at]);
}

stk_status stk_bpe_word(const stk_tokenizer *tokenizer, stk_bpe_scratch *scratch, const char *bytes,
                        size_t len_bytes, size_t *count)
{
    stk_status status = scratch_reserve(scratch, len_bytes);
    if (status != STK_OK)
        return status;
    for (size_t i = 0; i < len_bytes; ++i) {
        int32_t id = tokenizer->bpe.byte_ids[(uint8_t)bytes[i]];
        if (id < 0)
            return STK_INVALID;
        scratch->ids[i] = (uint32_t)id;
        scratch->prev[i] = (uint32_t)i - 1;
        scratch->next[i] = i + 1 < len_bytes ? (uint32_t)i + 1 : position_none;
    }
    scratch->heap_count = 0;
    for (size_t i = 0; i < len_bytes; ++i)
        pair_update(tokenizer, scratch, (uint32_t)i);
    // At most len pairs at first and two more per merge, of which there are fewer than len: the
    // queue never outgrows its 3 * len entries. An entry is stale when its pair has changed since;
    // a rank names one pair, so the ranks tell.
    while (scratch->heap_count) {
        uint64_t top = heap_pop(scratch);
        ++scratch->steps;
        if (scratch->ranks[(uint32_t)top] == top >> 32)
            pair_merge(tokenizer, scratch, (uint32_t)top);
    }
    size_t filled = 0;
    for (uint32_t at = 0; at != position_none; at = scratch->next[at])
        scratch->ids[filled++] = scratch->ids[at];
    *count = filled;
    return STK_OK;
}
