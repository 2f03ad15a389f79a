// model/chat.h: turns of a chat to the text a model was trained on.
//
// Knows the common formats by name; it does not run the Jinja template of a model, it recognises
// the format from it. Owns the text of the turns added since the last clear. Invariant: what a
// user or a model wrote is always in segments that are not trusted, so that control tokens written
// there stay plain text.
//
// The beginning-of-text token is the tokenizer's matter (STK_ENCODE_BOS).
#ifndef STK_MODEL_CHAT_H
#define STK_MODEL_CHAT_H

#include "model/tokenizer.h"

typedef enum stk_chat_format {
    STK_CHAT_UNKNOWN, // a template that is not recognised; rendered as ChatML
    STK_CHAT_CHATML,
    STK_CHAT_LLAMA_2,
    STK_CHAT_LLAMA_3,
    STK_CHAT_LLAMA_4,
    STK_CHAT_MISTRAL_V0, // [INST] without a system prompt
    STK_CHAT_MISTRAL_V1,
    STK_CHAT_MISTRAL_V3,
    STK_CHAT_MISTRAL_V3_TEKKEN,
    STK_CHAT_MISTRAL_V7,
    STK_CHAT_MISTRAL_V7_TEKKEN,
    STK_CHAT_GEMMA,
    STK_CHAT_DEEPSEEK_V2,
    STK_CHAT_DEEPSEEK_V3,
    STK_CHAT_DEEPSEEK_R1,
    STK_CHAT_PHI_3,
    STK_CHAT_PHI_4,
    STK_CHAT_ZEPHYR,
    STK_CHAT_STABLELM,
    STK_CHAT_COMMAND_R,
    STK_CHAT_GRANITE,
    STK_CHAT_HARMONY, // messages only: the fixed system preamble of GPT-OSS is the caller's
    STK_CHAT_FORMAT_COUNT,
} stk_chat_format;

// Recognises a format by characteristic parts of its Jinja text. Empty text: ChatML.
stk_chat_format stk_chat_detect(stk_str chat_template);

const char *stk_chat_format_name(stk_chat_format format); // "chatml"; never NULL

// Text at which a reply ends, for models whose vocabulary has no token that does; *count of them.
const char *const *stk_chat_stops(stk_chat_format format, size_t *count);

typedef enum stk_chat_role {
    STK_CHAT_SYSTEM,
    STK_CHAT_USER,
    STK_CHAT_ASSISTANT,
    STK_CHAT_ROLE_COUNT,
} stk_chat_role;

// A chat under way: segments not yet taken, and where in a turn it stands.
// Thread-safety: one thread at a time.
typedef struct stk_chat stk_chat;

STK_CHECKED stk_status stk_chat_open(stk_chat_format format, stk_chat **out); // STK_NO_MEMORY
void stk_chat_close(stk_chat **chat); // sets it to NULL; NULL is allowed

// Appends one message. The content is copied. STK_INVALID: no such role, or over 1 GiB of text;
// STK_NO_MEMORY. After a failure only stk_chat_reset and stk_chat_close are allowed.
STK_CHECKED stk_status stk_chat_add(stk_chat *chat, stk_chat_role role, stk_str content);

// Appends what makes the model write the assistant's next reply.
STK_CHECKED stk_status stk_chat_prompt(stk_chat *chat);

// Appends what follows a reply that the model wrote after stk_chat_prompt. has_end: the token that
// ended the reply was already given to the session, so only what comes after it is appended.
STK_CHECKED stk_status stk_chat_end_reply(stk_chat *chat, bool has_end);

// What was appended since the last clear, for stk_encoder_encode_segments; the texts lie back to
// back in one piece of memory. Valid until the next call on this chat.
const stk_text_segment *stk_chat_segments(stk_chat *chat, size_t *count);

// Forgets the appended text, which has been encoded; the next turn continues the same chat.
void stk_chat_clear(stk_chat *chat);
// Begins a new chat.
void stk_chat_reset(stk_chat *chat);

#endif
