// cluster/message.h: the bytes of what ranks say to each other.
//
// Pure: encodes to and decodes from memory. Invariant: a decoded message lies within the bytes it
// came in and its counts within the limits given, whatever a peer sent; what its values mean is
// checked by who acts on them. Ranks are alike in byte order and version, which is checked when
// they meet (cluster/cluster.h).
#ifndef STK_CLUSTER_MESSAGE_H
#define STK_CLUSTER_MESSAGE_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum stk_message_type {
    STK_MESSAGE_OPEN = 1, // down the chain: open a session
    STK_MESSAGE_FORWARD,  // rows and their residual stream
    STK_MESSAGE_FAILED,   // a rank before cannot go on; the last one tells rank 0
    STK_MESSAGE_TRUNCATE,
    STK_MESSAGE_CLOSE, // the session
    STK_MESSAGE_STATS, // answered by every rank
    STK_MESSAGE_QUIT,  // the engine
    STK_MESSAGE_REPLY, // to rank 0
    STK_MESSAGE_TYPES
} stk_message_type;

typedef enum stk_hop { STK_HOP_F32, STK_HOP_F16, STK_HOP_COUNT } stk_hop;

typedef struct stk_message_open {
    uint32_t context_tokens, sequence_count, batch_rows_max, logit_rows_max, full_kv;
} stk_message_open;

typedef struct stk_message_row {
    uint32_t sequence, position;
    int32_t token;
    uint32_t logits; // stk_want_logits of the engine
} stk_message_row;

// A sampler as rank 0's stands (engine/sampler.h), for the last rank to draw with.
enum { STK_MESSAGE_WINDOW_MAX = 256 };
typedef struct stk_message_draw {
    float temperature, top_p, min_p, repeat_penalty;
    uint32_t top_k, repeat_last;
    uint32_t window_count, reserved;
    uint64_t random[4];
    int32_t window[STK_MESSAGE_WINDOW_MAX]; // [window_count] of them count
} stk_message_draw;

typedef struct stk_message_forward {
    uint32_t row_count, width;
    uint32_t hop;                 // stk_hop: how the residual stream is written
    uint64_t computed_ns;         // of the ranks before, for this batch
    const stk_message_row *rows;  // [row_count]
    const stk_message_draw *draw; // NULL: nothing is drawn
    const void *hidden; // [row_count][width], float or half; 64-byte aligned in the message
} stk_message_forward;

typedef struct stk_message_failed {
    uint32_t status; // stk_status
    uint32_t rank;
} stk_message_failed;

typedef struct stk_message_truncate {
    uint32_t sequence, length_tokens;
} stk_message_truncate;

typedef struct stk_message_stats {
    uint64_t forwards, rows;
    uint64_t busy_ns, idle_ns; // computing, and waiting for something to do
    uint64_t hop_bytes;        // sent to the next rank, or logits to the first
    uint64_t weight_bytes;     // resident
    uint64_t token_bytes;      // read from memory, all tokens
    uint64_t disk_bytes;       // read from disk
    uint64_t experts_wanted, experts_hit;
} stk_message_stats;

typedef struct stk_message_reply {
    uint32_t to;     // stk_message_type it answers
    uint32_t status; // stk_status
    uint32_t rank;
    uint32_t logit_rows;
    uint64_t computed_ns; // of all ranks after the first
    stk_message_stats stats;
} stk_message_reply;

typedef struct stk_message {
    stk_message_type type;
    union {
        stk_message_open open;
        stk_message_forward forward;
        stk_message_failed failed;
        stk_message_truncate truncate;
        stk_message_reply reply;
    } u;
} stk_message;

// The most bytes a message with that many rows takes. Any message without rows fits too.
size_t stk_message_bytes_max(uint32_t row_count, uint32_t width);
// Bytes of a forward message's residual stream.
size_t stk_message_hidden_bytes(const stk_message_forward *forward);

// Writes the message to out[capacity], 64-byte aligned; forward.rows and hidden are copied.
// Returns its size.
size_t stk_message_encode(const stk_message *message, void *out, size_t capacity);
// Reads data[size], 64-byte aligned, in which *out then points. STK_FORMAT: not a message of a
// known type, or not of the size its counts imply, or with more than rows_max rows.
STK_CHECKED stk_status stk_message_decode(const void *data, size_t size, uint32_t rows_max,
                                          stk_message *out);

#endif
