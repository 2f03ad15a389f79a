#include "model/tokenizer_internal.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

// The published patterns, with two changes that alter no result: (?i:) of the contractions is
// spelt out, because caseless 's' also matches U+017F, which the models never saw; and \s is the
// property White_Space, because PCRE2's \s also takes U+180E. Each matches at every position of
// valid text and is linear: a run of spaces is scanned at most three times.
#define SPACE       "\\p{White_Space}"
#define NO_SPACE    "\\P{White_Space}"
#define LETTER_WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define SHORT_WORDS "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|"
#define TAIL                                                                                       \
    " ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|" SPACE "*[\\r\\n]+|" SPACE "+(?!" NO_SPACE ")|" SPACE "+"

static const char qwen2_pattern[] = SHORT_WORDS LETTER_WORD "\\p{N}|" TAIL;
static const char llama3_pattern[] = SHORT_WORDS LETTER_WORD "\\p{N}{1,3}|" TAIL;
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE
                                   "\\p{L}\\p{N}]+|" SPACE "+(?!" NO_SPACE ")|" SPACE "+";

typedef struct pre_name {
    const char *name;
    const char *pattern;
    bool whole_words;
} pre_name;

static const pre_name pre_names[] = {
    {"qwen2", qwen2_pattern, false},     {"gpt-2", gpt2_pattern, false},
    {"gpt2", gpt2_pattern, false},       {"default", gpt2_pattern, false},
    {"llama-bpe", llama3_pattern, true}, {"llama3", llama3_pattern, true},
    {"llama-v3", llama3_pattern, true},
};

struct stk_pre {
    pcre2_code *code;
};

struct stk_pre_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *jit_stack; // NULL when there is no JIT
};

static const pre_name *pre_find(stk_str name, const stk_log *log)
{
    for (size_t i = 0; i < sizeof pre_names / sizeof *pre_names; ++i)
        if (stk_str_is(name, pre_names[i].name))
            return &pre_names[i];
    int shown = name.len_bytes < 64 ? (int)name.len_bytes : 64;
    stk_warn(log, "tokenizer.ggml.pre: \"%.*s\" is not known, text is split as GPT-2 does", shown,
             name.data ? name.data : "");
    return &pre_names[1];
}

stk_status stk_pre_open(stk_str name, const stk_log *log, stk_pre **out, bool *whole_words)
{
    const pre_name *found = pre_find(name, log);
    stk_pre *pre = calloc(1, sizeof *pre);
    if (!pre)
        return STK_NO_MEMORY;
    int error;
    PCRE2_SIZE offset;
    pre->code = pcre2_compile((PCRE2_SPTR)found->pattern, PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, NULL);
    if (!pre->code) {
        free(pre);
        return stk_fail(log, STK_NO_MEMORY, "pattern of \"%s\": pcre2 error %d at %zu", found->name,
                        error, (size_t)offset);
    }
    if (pcre2_jit_compile(pre->code, PCRE2_JIT_COMPLETE) != 0)
        stk_debug(log, "pattern of \"%s\": no just-in-time code, it is interpreted", found->name);
    *whole_words = found->whole_words;
    *out = pre;
    return STK_OK;
}

void stk_pre_close(stk_pre **pre)
{
    if (!*pre)
        return;
    pcre2_code_free((*pre)->code);
    free(*pre);
    *pre = NULL;
}

stk_status stk_pre_scratch_open(const stk_pre *pre, stk_pre_scratch **out)
{
    enum { JIT_STACK_START_BYTES = 32 << 10, JIT_STACK_MAX_BYTES = 1 << 20 };
    stk_pre_scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch)
        return STK_NO_MEMORY;
    scratch->match = pcre2_match_data_create(1, NULL);
    scratch->context = pcre2_match_context_create(NULL);
    if (!scratch->match || !scratch->context) {
        stk_pre_scratch_close(&scratch);
        return STK_NO_MEMORY;
    }
    // The limit guards against exponential patterns; ours are linear and must not fail on a long
    // run of spaces.
    pcre2_set_match_limit(scratch->context, UINT32_MAX);
    size_t jit_bytes = 0;
    pcre2_pattern_info(pre->code, PCRE2_INFO_JITSIZE, &jit_bytes);
    if (jit_bytes)
        scratch->jit_stack = pcre2_jit_stack_create(JIT_STACK_START_BYTES, JIT_STACK_MAX_BYTES,
                                                    NULL);
    if (scratch->jit_stack)
        pcre2_jit_stack_assign(scratch->context, NULL, scratch->jit_stack);
    *out = scratch;
    return STK_OK;
}

void stk_pre_scratch_close(stk_pre_scratch **scratch)
{
    if (!*scratch)
        return;
    pcre2_match_data_free((*scratch)->match);
    pcre2_match_context_free((*scratch)->context);
    pcre2_jit_stack_free((*scratch)->jit_stack);
    free(*scratch);
    *scratch = NULL;
}

stk_status stk_pre_next(const stk_pre *pre, stk_pre_scratch *scratch, const char *text,
                        size_t len_bytes, size_t start, size_t *word_bytes)
{
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int found = pcre2_match(pre->code, (PCRE2_SPTR)text, len_bytes, start, options, scratch->match,
                            scratch->context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(pre->code, (PCRE2_SPTR)text, len_bytes, start, options | PCRE2_NO_JIT,
                            scratch->match, scratch->context);
    if (found == PCRE2_ERROR_NOMATCH) { // no pattern here leaves a gap; if one did, it is a word
        *word_bytes = len_bytes - start;
        return STK_OK;
    }
    if (found < 0)
        return STK_NO_MEMORY;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(scratch->match);
    *word_bytes = at[0] > start ? at[0] - start : at[1] - start;
    return STK_OK;
}
