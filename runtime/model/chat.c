#include "model/chat.h"
#include "model/chat_tables.h"

#include <stdlib.h>

enum { CHAT_BYTES_MAX = 1 << 30 };

typedef struct chat_piece {
    size_t len_bytes;
    bool is_trusted;
} chat_piece;

struct stk_chat {
    const stk_chat_rules *rules;
    char *text;
    size_t text_bytes, text_capacity;
    chat_piece *pieces;
    stk_text_segment *segments; // [piece_capacity], filled from the pieces when asked for
    size_t piece_count, piece_capacity;
    bool in_user;   // a user turn is open: it holds the system text so far
    bool seen_user; // later user turns open with user_again
};

static bool contains(stk_str text, const char *part)
{
    return text.len_bytes && memmem(text.data, text.len_bytes, part, strlen(part)) != NULL;
}

stk_chat_format stk_chat_detect(stk_str chat_template)
{
    if (chat_template.len_bytes == 0)
        return STK_CHAT_CHATML;
    for (size_t i = 0; i < stk_chat_marks_count; ++i) {
        const stk_chat_marks *marks = &stk_chat_marks_table[i];
        bool all = !marks->without || !contains(chat_template, marks->without);
        for (size_t m = 0; all && m < STK_CHAT_MARKS_MAX && marks->with[m]; ++m)
            all = contains(chat_template, marks->with[m]);
        if (all)
            return marks->format;
    }
    return STK_CHAT_UNKNOWN;
}

static const stk_chat_rules *rules_of(stk_chat_format format)
{
    if ((unsigned)format >= STK_CHAT_FORMAT_COUNT)
        format = STK_CHAT_UNKNOWN;
    return &stk_chat_rules_table[format];
}

const char *stk_chat_format_name(stk_chat_format format)
{
    return rules_of(format)->name;
}

const char *const *stk_chat_stops(stk_chat_format format, size_t *count)
{
    const stk_chat_rules *rules = rules_of(format);
    *count = 0;
    while (*count < STK_CHAT_STOPS_MAX && rules->stops[*count])
        ++*count;
    return rules->stops;
}

stk_status stk_chat_open(stk_chat_format format, stk_chat **out)
{
    stk_chat *chat = calloc(1, sizeof *chat);
    if (!chat)
        return STK_NO_MEMORY;
    chat->rules = rules_of(format);
    *out = chat;
    return STK_OK;
}

void stk_chat_close(stk_chat **chat)
{
    if (!*chat)
        return;
    free((*chat)->text);
    free((*chat)->pieces);
    free((*chat)->segments);
    free(*chat);
    *chat = NULL;
}

static stk_status reserve(stk_chat *chat, size_t more_bytes)
{
    if (more_bytes > CHAT_BYTES_MAX - chat->text_bytes)
        return STK_INVALID;
    if (chat->text_bytes + more_bytes > chat->text_capacity) {
        size_t capacity = (chat->text_bytes + more_bytes) * 2 + 1024;
        char *text = realloc(chat->text, capacity);
        if (!text)
            return STK_NO_MEMORY;
        chat->text = text;
        chat->text_capacity = capacity;
    }
    if (chat->piece_count == chat->piece_capacity) {
        size_t capacity = chat->piece_capacity * 2 + 16;
        chat_piece *pieces = realloc(chat->pieces, capacity * sizeof *pieces);
        if (pieces)
            chat->pieces = pieces;
        stk_text_segment *segments = realloc(chat->segments, capacity * sizeof *segments);
        if (segments)
            chat->segments = segments;
        if (!pieces || !segments)
            return STK_NO_MEMORY;
        chat->piece_capacity = capacity;
    }
    return STK_OK;
}

static stk_status append(stk_chat *chat, stk_str text, bool is_trusted)
{
    if (text.len_bytes == 0)
        return STK_OK;
    stk_status status = reserve(chat, text.len_bytes);
    if (status != STK_OK)
        return status;
    memcpy(chat->text + chat->text_bytes, text.data, text.len_bytes);
    chat->text_bytes += text.len_bytes;
    // One segment per run, so that a marker is never cut in two.
    if (chat->piece_count && chat->pieces[chat->piece_count - 1].is_trusted == is_trusted)
        chat->pieces[chat->piece_count - 1].len_bytes += text.len_bytes;
    else
        chat->pieces[chat->piece_count++] = (chat_piece){text.len_bytes, is_trusted};
    return STK_OK;
}

static stk_status mark(stk_chat *chat, const char *text)
{
    return append(chat, stk_str_of(text), true);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static stk_str trim(stk_str s)
{
    while (s.len_bytes && is_blank(s.data[0])) {
        ++s.data;
        --s.len_bytes;
    }
    while (s.len_bytes && is_blank(s.data[s.len_bytes - 1]))
        --s.len_bytes;
    return s;
}

static stk_str after_thinking(stk_str s)
{
    static const char end[] = "</think>";
    for (const char *found;
         s.len_bytes && (found = memmem(s.data, s.len_bytes, end, strlen(end)));) {
        found += strlen(end);
        s.len_bytes -= (size_t)(found - s.data);
        s.data = found;
    }
    return s;
}

static stk_str content_of(const stk_chat_rules *rules, stk_chat_role role, stk_str content)
{
    if (role == STK_CHAT_ASSISTANT && rules->drops_thinking)
        content = after_thinking(content);
    bool trims = role == STK_CHAT_ASSISTANT ? rules->trims_assistant : rules->trims;
    return trims ? trim(content) : content;
}

static stk_status user_open(stk_chat *chat)
{
    const stk_chat_rules *rules = chat->rules;
    if (chat->in_user)
        return STK_OK;
    const char *open = chat->seen_user && rules->user_again ? rules->user_again
                                                            : rules->open[STK_CHAT_USER];
    chat->in_user = chat->seen_user = true;
    return mark(chat, open);
}

static stk_status user_close(stk_chat *chat)
{
    if (!chat->in_user)
        return STK_OK;
    chat->in_user = false;
    return mark(chat, chat->rules->close[STK_CHAT_USER]);
}

// A system text that shares the user's turn opens it; the turn stays open for the user's text.
static stk_status role_open(stk_chat *chat, stk_chat_role role)
{
    stk_status status = STK_OK;
    bool shares = role == STK_CHAT_SYSTEM && chat->rules->system_in_user;
    if (role == STK_CHAT_USER || shares)
        status = user_open(chat);
    else
        status = user_close(chat);
    if (status == STK_OK && role != STK_CHAT_USER)
        status = mark(chat, chat->rules->open[role]);
    return status;
}

stk_status stk_chat_add(stk_chat *chat, stk_chat_role role, stk_str content)
{
    const stk_chat_rules *rules = chat->rules;
    if ((unsigned)role >= STK_CHAT_ROLE_COUNT)
        return STK_INVALID;
    stk_status status = role_open(chat, role);
    if (status == STK_OK)
        status = append(chat, content_of(rules, role, content), false);
    if (status != STK_OK)
        return status;
    if (role == STK_CHAT_USER)
        return user_close(chat);
    if (role == STK_CHAT_SYSTEM)
        return mark(chat, rules->close[STK_CHAT_SYSTEM]);
    return stk_chat_end_reply(chat, false);
}

stk_status stk_chat_prompt(stk_chat *chat)
{
    stk_status status = user_close(chat);
    return status == STK_OK ? mark(chat, chat->rules->prompt) : status;
}

stk_status stk_chat_end_reply(stk_chat *chat, bool has_end)
{
    stk_status status = has_end ? STK_OK : mark(chat, chat->rules->reply_end);
    return status == STK_OK ? mark(chat, chat->rules->reply_tail) : status;
}

const stk_text_segment *stk_chat_segments(stk_chat *chat, size_t *count)
{
    const char *at = chat->text;
    for (size_t i = 0; i < chat->piece_count; ++i) {
        chat->segments[i] = (stk_text_segment){{at, chat->pieces[i].len_bytes},
                                               chat->pieces[i].is_trusted};
        at += chat->pieces[i].len_bytes;
    }
    *count = chat->piece_count;
    return chat->segments;
}

void stk_chat_clear(stk_chat *chat)
{
    chat->text_bytes = 0;
    chat->piece_count = 0;
}

void stk_chat_reset(stk_chat *chat)
{
    stk_chat_clear(chat);
    chat->in_user = chat->seen_user = false;
}
