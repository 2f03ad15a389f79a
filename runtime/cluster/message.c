#include "cluster/message.h"

#include <assert.h>
#include <string.h>

enum { ALIGN = 64, WIDTH_MAX = 1 << 20 };

typedef struct header {
    char magic[4]; // "STKM"
    uint32_t type;
    uint64_t size;
    // of a forward
    uint32_t row_count, width, hop, has_draw;
    uint64_t computed_ns;
} header;

static size_t align_up(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

// A forward: header, rows, how to draw if that is asked for, residual stream.
static size_t draw_at(uint32_t row_count)
{
    return align_up(ALIGN + row_count * sizeof(stk_message_row));
}

static size_t hidden_at(uint32_t row_count, bool has_draw)
{
    return draw_at(row_count) + (has_draw ? align_up(sizeof(stk_message_draw)) : 0);
}

size_t stk_message_hidden_bytes(const stk_message_forward *f)
{
    return (size_t)f->row_count * f->width *
           (f->hop == STK_HOP_F16 ? sizeof(uint16_t) : sizeof(float));
}

size_t stk_message_bytes_max(uint32_t row_count, uint32_t width)
{
    size_t plain = ALIGN + sizeof(stk_message);
    size_t rows = hidden_at(row_count, true) + (size_t)row_count * width * sizeof(float);
    return align_up(rows > plain ? rows : plain);
}

// What follows the header in messages of a fixed size.
static size_t payload(const stk_message *m, const void **data)
{
    switch (m->type) {
    case STK_MESSAGE_OPEN:
        *data = &m->u.open;
        return sizeof m->u.open;
    case STK_MESSAGE_FAILED:
        *data = &m->u.failed;
        return sizeof m->u.failed;
    case STK_MESSAGE_TRUNCATE:
        *data = &m->u.truncate;
        return sizeof m->u.truncate;
    case STK_MESSAGE_REPLY:
        *data = &m->u.reply;
        return sizeof m->u.reply;
    default:
        *data = NULL;
        return 0;
    }
}

size_t stk_message_encode(const stk_message *message, void *out, size_t capacity)
{
    uint8_t *to = out;
    const void *data;
    header h = {.magic = "STKM", .type = message->type};
    size_t bytes = payload(message, &data);
    h.size = ALIGN + bytes;
    const stk_message_forward *f = &message->u.forward;
    if (message->type == STK_MESSAGE_FORWARD) {
        h.row_count = f->row_count;
        h.width = f->width;
        h.hop = f->hop;
        h.computed_ns = f->computed_ns;
        h.has_draw = f->draw != NULL;
        h.size = hidden_at(f->row_count, f->draw != NULL) + stk_message_hidden_bytes(f);
    }
    assert(h.size <= capacity);
    (void)capacity;
    memset(to, 0, ALIGN);
    memcpy(to, &h, sizeof h);
    if (data)
        memcpy(to + ALIGN, data, bytes);
    if (message->type == STK_MESSAGE_FORWARD) {
        memcpy(to + ALIGN, f->rows, f->row_count * sizeof *f->rows);
        if (f->draw)
            memcpy(to + draw_at(f->row_count), f->draw, sizeof *f->draw);
        memcpy(to + hidden_at(f->row_count, f->draw != NULL), f->hidden,
               stk_message_hidden_bytes(f));
    }
    return h.size;
}

static stk_status decode_forward(const uint8_t *data, const header *h, uint32_t rows_max,
                                 stk_message_forward *out)
{
    if (h->row_count == 0 || h->row_count > rows_max || h->width == 0 || h->width > WIDTH_MAX ||
        h->hop >= STK_HOP_COUNT || h->has_draw > 1)
        return STK_FORMAT;
    stk_message_forward f = {.row_count = h->row_count,
                             .width = h->width,
                             .hop = h->hop,
                             .computed_ns = h->computed_ns,
                             .rows = (const stk_message_row *)(const void *)(data + ALIGN),
                             .hidden = data + hidden_at(h->row_count, h->has_draw)};
    if (h->size != hidden_at(f.row_count, h->has_draw) + stk_message_hidden_bytes(&f))
        return STK_FORMAT;
    if (h->has_draw)
        f.draw = (const stk_message_draw *)(const void *)(data + draw_at(h->row_count));
    if (f.draw && f.draw->window_count > STK_MESSAGE_WINDOW_MAX)
        return STK_FORMAT;
    *out = f;
    return STK_OK;
}

stk_status stk_message_decode(const void *data, size_t size, uint32_t rows_max, stk_message *out)
{
    header h;
    stk_message m;
    if (size < ALIGN)
        return STK_FORMAT;
    memcpy(&h, data, sizeof h);
    if (memcmp(h.magic, "STKM", sizeof h.magic) != 0 || h.size != size || h.type == 0 ||
        h.type >= STK_MESSAGE_TYPES)
        return STK_FORMAT;
    memset(&m, 0, sizeof m);
    m.type = (stk_message_type)h.type;
    const uint8_t *body = (const uint8_t *)data + ALIGN;
    if (m.type == STK_MESSAGE_FORWARD) {
        stk_status status = decode_forward(data, &h, rows_max, &m.u.forward);
        if (status == STK_OK)
            *out = m;
        return status;
    }
    const void *unused;
    size_t bytes = payload(&m, &unused);
    if (size != ALIGN + bytes)
        return STK_FORMAT;
    if (bytes > 0)
        memcpy(&m.u, body, bytes);
    *out = m;
    return STK_OK;
}
