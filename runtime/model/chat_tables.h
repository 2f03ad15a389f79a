// model/chat_tables.h: the formats as data. See chat.c for how the fields are used.
#ifndef STK_MODEL_CHAT_TABLES_H
#define STK_MODEL_CHAT_TABLES_H

#include "model/chat.h"

enum { STK_CHAT_STOPS_MAX = 3, STK_CHAT_MARKS_MAX = 3 };

typedef struct stk_chat_rules {
    const char *name;
    const char *open[STK_CHAT_ROLE_COUNT]; // in front of the content
    const char *close[2];                  // behind it, system and user
    const char *user_again;                // opens later user turns, NULL: as the first
    const char *prompt;                    // makes the model reply
    const char *reply_end;                 // behind the assistant's content: what the model writes
    const char *reply_tail;                // and what then follows
    bool system_in_user;                   // the system text lies inside the next user turn
    bool trims;                            // content without spaces around it
    bool trims_assistant;
    bool drops_thinking; // earlier replies without what precedes </think>
    const char *stops[STK_CHAT_STOPS_MAX];
} stk_chat_rules;

extern const stk_chat_rules stk_chat_rules_table[STK_CHAT_FORMAT_COUNT];

// The first row whose `with` are all in the template and whose `without` is not decides.
typedef struct stk_chat_marks {
    stk_chat_format format;
    const char *with[STK_CHAT_MARKS_MAX];
    const char *without;
} stk_chat_marks;

extern const stk_chat_marks stk_chat_marks_table[];
extern const size_t stk_chat_marks_count;

#endif
