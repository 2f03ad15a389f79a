// A session's part on the device: buffers, what a batch is, and one submission per layer.
#include "vulkan/dense_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

act_block stk_vk_act_block_of(uint64_t rows, uint64_t n)
{
    act_block b = {.y_at = 4 * rows * n, .q_at = 8 * rows * n, .d_at = 9 * rows * n};
    b.sum_at = b.d_at + rows * n / 8;
    b.bytes = b.sum_at + rows * n / 8;
    return b;
}

uint32_t stk_vk_dense_queries(const stk_vk *vk)
{
    return stk_vk_info(vk)->shared_bytes_max >= 32768 ? 16 : 8;
}

// Segments that one row can see in any layer here: a window may begin and end within one.
static uint32_t segments_max(const stk_vk_dense_options *o, const stk_vk_stream_options *so)
{
    uint32_t most = 1;
    for (uint32_t i = 0; i < o->layer_count; i++)
        if (so->capacity_tokens[i] / SEGMENT_TOKENS + 1 > most)
            most = so->capacity_tokens[i] / SEGMENT_TOKENS + 1;
    return most;
}

uint32_t stk_vk_dense_segments_max(const stk_vk_stream *s)
{
    return segments_max(&s->dense->options, &s->options);
}

static step_layout step_of(const stk_vk_dense_options *o, const stk_vk_stream_options *so)
{
    step_layout l = {.batch_at = stk_vk_padded((uint64_t)o->layer_count * DISPATCH_COUNT *
                                               sizeof(VkDispatchIndirectCommand))};
    l.tiles_at = stk_vk_padded(l.batch_at + 8 + 8 * (uint64_t)so->rows_max);
    l.angles_at = stk_vk_padded(l.tiles_at + 8 * (uint64_t)so->rows_max);
    l.bytes = stk_vk_padded(l.angles_at + 4 * (uint64_t)so->rows_max * o->rope_dim);
    return l;
}

// Both keys and values.
static uint64_t kv_bytes(const stk_vk_dense_options *o, const stk_vk_stream_options *so,
                         uint32_t layer)
{
    return UINT64_C(4) * so->sequence_count * o->kv_head_count * so->capacity_tokens[layer] *
           o->head_dim;
}

// Everything between the layers, in device memory.
typedef struct scratch_sizes {
    uint64_t acts, qkv, attended, projected, states;
} scratch_sizes;

static scratch_sizes scratch_of(const stk_vk_dense_options *o, const stk_vk_stream_options *so)
{
    uint64_t rows = so->rows_max, heads = (uint64_t)o->head_count * o->head_dim;
    uint64_t kv_heads = (uint64_t)o->kv_head_count * o->head_dim;
    return (scratch_sizes){.acts = stk_vk_act_block_of(rows, o->width).bytes,
                           .qkv = 4 * rows * (heads + 2 * kv_heads),
                           .attended = stk_vk_act_block_of(rows, heads).bytes - 4 * rows * heads,
                           .projected = 4 * rows * o->width,
                           .states = 4 * (uint64_t)FEW_ROWS * o->head_count * segments_max(o, so) *
                                     (o->head_dim + 2)};
}

uint64_t stk_vk_stream_bytes(const stk_vk_dense_options *o, const stk_vk_stream_options *so)
{
    scratch_sizes sizes = scratch_of(o, so);
    uint64_t bytes = step_of(o, so).bytes + stk_vk_padded(sizes.acts) + stk_vk_padded(sizes.qkv) +
                     stk_vk_padded(sizes.attended) + stk_vk_padded(sizes.projected) +
                     stk_vk_padded(sizes.states);
    if (stk_vk_info(o->vk)->unified) // then what the host reads and writes counts too
        bytes += step_of(o, so).bytes + 2 * stk_vk_padded(sizes.acts);
    for (uint32_t i = 0; i < o->layer_count; i++)
        bytes += o->layers[i].here ? stk_vk_padded(kv_bytes(o, so, i)) : 0;
    return bytes + stk_vk_stream_head_bytes(o, so);
}

static stk_status take(stk_vk_stream *s, stk_vk_use use, uint64_t bytes, stk_vk_buffer *out)
{
    return stk_vk_buffer_take(s->vk, use, bytes, out);
}

static stk_status take_kv(stk_vk_stream *s)
{
    const stk_vk_dense_options *o = &s->dense->options;
    stk_status status = STK_OK;
    for (uint32_t i = 0; i < o->layer_count && status == STK_OK; i++)
        if (s->dense->layers[i].here)
            status = take(s, STK_VK_LOCAL, kv_bytes(o, &s->options, i), &s->kv[i]);
    return status;
}

static stk_status take_buffers(stk_vk_stream *s)
{
    const stk_vk_dense_options *o = &s->dense->options;
    scratch_sizes sizes = scratch_of(o, &s->options);
    const struct {
        stk_vk_use use;
        uint64_t bytes;
        stk_vk_buffer *to;
    } wanted[] = {
        {STK_VK_LOCAL, s->layout.bytes, &s->step},
        {STK_VK_UPLOAD, sizes.projected, &s->x_in},
        {STK_VK_LOCAL, sizes.acts, &s->acts},
        {STK_VK_READBACK, sizes.acts, &s->host},
        {STK_VK_LOCAL, sizes.qkv, &s->qkv},
        {STK_VK_LOCAL, sizes.attended, &s->attended},
        {STK_VK_LOCAL, sizes.projected, &s->projected},
        {STK_VK_LOCAL, sizes.states, &s->states},
    };
    stk_status status = STK_OK;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && status == STK_OK; i++)
        status = take(s, wanted[i].use, wanted[i].bytes, wanted[i].to);
    if (status == STK_OK && s->step.mapped)
        s->step_in = s->step;
    else if (status == STK_OK)
        status = take(s, STK_VK_UPLOAD, s->layout.bytes, &s->step_in);
    return status == STK_OK ? take_kv(s) : status;
}

static stk_status take_tables(stk_vk_stream *s)
{
    uint32_t layers = s->dense->options.layer_count;
    s->kv = calloc(layers, sizeof *s->kv);
    s->layers = calloc(layers, sizeof *s->layers);
    s->capacity_tokens = calloc(layers, sizeof *s->capacity_tokens);
    if (!s->kv || !s->layers || !s->capacity_tokens)
        return STK_NO_MEMORY;
    memcpy(s->capacity_tokens, s->options.capacity_tokens, layers * sizeof *s->capacity_tokens);
    s->options.capacity_tokens = s->capacity_tokens;
    return STK_OK;
}

stk_status stk_vk_stream_open(stk_vk_dense *dense, const stk_vk_stream_options *options,
                              stk_vk_stream **out)
{
    const stk_vk_dense_options *o = &dense->options;
    stk_vk_stream *s = calloc(1, sizeof *s);
    if (!s)
        return STK_NO_MEMORY;
    s->vk = dense->vk;
    s->dense = dense;
    s->options = *options;
    s->layout = step_of(o, options);
    s->block = stk_vk_act_block_of(options->rows_max, o->width);
    uint32_t per_kv = o->head_count / o->kv_head_count, queries = stk_vk_dense_queries(s->vk);
    s->tile_rows = per_kv < queries ? queries / per_kv : 1;
    stk_status status = take_tables(s);
    if (status == STK_OK)
        status = take_buffers(s);
    if (status == STK_OK)
        status = stk_vk_stream_record(s);
    if (status == STK_OK && o->has_head)
        status = stk_vk_stream_open_head(s);
    if (status != STK_OK) {
        stk_vk_stream_close(&s);
        return status;
    }
    *out = s;
    return STK_OK;
}

void stk_vk_stream_close(stk_vk_stream **pointer)
{
    stk_vk_stream *s = *pointer;
    if (!s)
        return;
    (void)s->vk->fn.DeviceWaitIdle(s->vk->device);
    if (s->step.mapped)
        s->step_in = (stk_vk_buffer){0};
    stk_vk_buffer *const buffers[] = {&s->step, &s->step_in,  &s->x_in,      &s->acts,  &s->host,
                                      &s->qkv,  &s->attended, &s->projected, &s->states};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        stk_vk_buffer_give(s->vk, buffers[i]);
    for (uint32_t i = 0; i < s->dense->options.layer_count; i++) {
        if (s->kv)
            stk_vk_buffer_give(s->vk, &s->kv[i]);
        for (uint32_t c = 0; c < CLASSES && s->layers; c++)
            stk_vk_commands_give(s->vk, &s->vk->compute, s->layers[i][c]);
    }
    for (uint32_t c = 0; c < CLASSES; c++)
        stk_vk_commands_give(s->vk, &s->vk->compute, s->begin[c]);
    stk_vk_commands_give(s->vk, &s->vk->compute, s->head_commands);
    stk_vk_stream_close_head(s);
    free(s->kv);
    free(s->layers);
    free(s->capacity_tokens);
    free(s);
    *pointer = NULL;
}

// ---- one batch ----

// Runs of rows of one sequence, of tile_rows at most. Returns how many.
static uint32_t write_tiles(const stk_vk_stream *s, const stk_vk_batch_row *rows, uint32_t count,
                            uint32_t *tiles)
{
    uint32_t most = count <= FEW_ROWS ? 1 : s->tile_rows, tile_count = 0;
    for (uint32_t row = 0; row < count;) {
        uint32_t run = 1;
        while (run < most && row + run < count && rows[row + run].sequence == rows[row].sequence)
            run++;
        tiles[2 * tile_count] = row;
        tiles[2 * tile_count++ + 1] = run;
        row += run;
    }
    return tile_count;
}

// The most segments that a row sees.
static uint32_t count_segments(const stk_vk_batch_row *rows, uint32_t count, uint32_t window)
{
    uint32_t most = 1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t end = rows[i].position + 1, begin = window != 0 && end > window ? end - window : 0;
        uint32_t segments = (end + SEGMENT_TOKENS - 1) / SEGMENT_TOKENS - begin / SEGMENT_TOKENS;
        most = segments > most ? segments : most;
    }
    return most;
}

static void write_dispatches(const stk_vk_stream *s, uint32_t layer, uint32_t rows, uint32_t tiles,
                             uint32_t segments)
{
    const stk_vk_dense_options *o = &s->dense->options;
    const dense_layer *l = &s->dense->layers[layer];
    uint32_t per_kv = o->head_count / o->kv_head_count;
    bool many = rows > FEW_ROWS;
    uint32_t queries = !many ? 8 : stk_vk_dense_queries(s->vk);
    uint32_t units = o->kv_head_count * ((per_kv + queries - 1) / queries) *
                     ((o->head_dim + 127) / 128);
    uint32_t blocks = rows * (o->head_count * o->head_dim / 32);
    bool chain = s->sizes_of && l->router.shape.rows != 0 && !many;
    chain_sizes of_chain = chain ? s->sizes_of(s->chain, rows) : (chain_sizes){0};
    const VkDispatchIndirectCommand none = {0};
    const VkDispatchIndirectCommand sizes[DISPATCH_COUNT] = {
        [DISPATCH_NORM] = {rows, 1, 1},
        [DISPATCH_Q] = stk_vk_dense_size(&l->q.shape, rows, many),
        [DISPATCH_K] = stk_vk_dense_size(&l->k.shape, rows, many),
        [DISPATCH_V] = stk_vk_dense_size(&l->v.shape, rows, many),
        [DISPATCH_ROPE] = {o->head_count + 2 * o->kv_head_count, rows, 1},
        [DISPATCH_ATTEND] = {units, tiles, many ? 1 : segments},
        [DISPATCH_JOIN] = {o->head_count, rows, 1},
        [DISPATCH_QUANTIZE] = {(blocks + 3) / 4, 1, 1},
        [DISPATCH_OUTPUT] = stk_vk_dense_size(&l->output.shape, rows, many),
        [DISPATCH_ROUTER] = chain ? stk_vk_dense_size(&l->router.shape, rows, many) : none,
        [DISPATCH_ROUTE] = of_chain.route,
        [DISPATCH_INNER] = of_chain.inner,
        [DISPATCH_DOWN] = of_chain.down,
        [DISPATCH_COMBINE] = of_chain.combine,
    };
    memcpy(s->step_in.mapped + (size_t)layer * sizeof sizes, sizes, sizeof sizes);
}

stk_status stk_vk_stream_begin(stk_vk_stream *s, const stk_vk_batch_row *rows, uint32_t count,
                               const float *angles)
{
    const stk_vk_dense_options *o = &s->dense->options;
    assert(count >= 1 && count <= s->options.rows_max);
    s->row_count = count;
    uint32_t *batch = (uint32_t *)(void *)(s->step_in.mapped + s->layout.batch_at);
    uint32_t *tiles = (uint32_t *)(void *)(s->step_in.mapped + s->layout.tiles_at);
    batch[0] = count;
    batch[1] = 0;
    for (uint32_t i = 0; i < count; i++) {
        batch[2 + 2 * i] = rows[i].position;
        batch[3 + 2 * i] = rows[i].sequence;
    }
    uint32_t tile_count = write_tiles(s, rows, count, tiles), window = 0, segments = 0;
    memcpy(s->step_in.mapped + s->layout.angles_at, angles,
           (size_t)count * o->rope_dim * sizeof *angles);
    for (uint32_t i = 0; i < o->layer_count; i++) {
        const dense_layer *l = &s->dense->layers[i];
        if (!l->here)
            continue;
        if (segments == 0 || l->window_tokens != window)
            segments = count_segments(rows, count, l->window_tokens);
        window = l->window_tokens;
        write_dispatches(s, i, count, tile_count, segments);
    }
    s->begun = s->step.mapped ? VK_NULL_HANDLE : s->begin[count <= FEW_ROWS ? 0 : 1];
    return STK_OK;
}

stk_status stk_vk_stream_attend(stk_vk_stream *s, uint32_t layer, const float *x)
{
    assert(s->dense->layers[layer].here);
    memcpy(s->x_in.mapped, x, (size_t)s->row_count * s->dense->options.width * sizeof *x);
    VkCommandBuffer commands = s->layers[layer][s->row_count <= FEW_ROWS ? 0 : 1];
    const VkCommandBuffer both[] = {s->begun, commands};
    bool begins = s->begun != VK_NULL_HANDLE;
    s->begun = VK_NULL_HANDLE;
    return stk_vk_submit_all(s->vk, &s->vk->compute, begins ? both : &commands, begins ? 2 : 1,
                             NULL, 0, &s->value);
}

stk_status stk_vk_stream_wait(stk_vk_stream *s, stk_vk_attended *out)
{
    const uint8_t *host = s->host.mapped;
    stk_status status = stk_vk_wait(s->vk, &s->vk->compute, s->value);
    if (status != STK_OK)
        return status;
    *out = (stk_vk_attended){
        (const float *)(const void *)host, (const float *)(const void *)(host + s->block.y_at),
        (const int8_t *)(host + s->block.q_at), (const float *)(const void *)(host + s->block.d_at),
        (const int32_t *)(const void *)(host + s->block.sum_at)};
    return STK_OK;
}
