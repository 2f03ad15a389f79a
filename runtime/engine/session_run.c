// One forward pass. A device lost on the way costs it a second one, and a session whose keys and
// values were there computes them again, from the tokens it kept.
#include "engine/engine_impl.h"

#include <stdlib.h>

static void set_batch(stk_session *s, const stk_row *rows, uint32_t count)
{
    s->rows = rows;
    s->row_count = count;
    s->logit_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        s->logit_slot[i] = rows[i].logits ? s->logit_count : UINT32_MAX;
        if (rows[i].logits)
            s->logit_rows[s->logit_count++] = i;
        if (s->tokens)
            s->tokens[(size_t)rows[i].sequence * s->context_tokens + rows[i].position] =
                rows[i].token;
    }
}

static stk_status run_batch(stk_session *s, const stk_row *rows, uint32_t count)
{
    stk_spare_lend(s, rows, count); // which may move the scratch
    set_batch(s, rows, count);
    s->uses_stream = s->stream != NULL;
    stk_gpu_chain_plan(s);
    atomic_store(&s->failure, STK_OK);
    stk_team_run(s->engine->team, stk_forward_worker, s);
    return (stk_status)atomic_load(&s->failure);
}

// Computes one sequence's keys and values once more.
static stk_status compute_again(stk_session *s, uint32_t sequence, stk_row *rows)
{
    uint32_t length = s->length[sequence];
    const int32_t *tokens = s->tokens + (size_t)sequence * s->context_tokens;
    stk_status status = STK_OK;
    for (uint32_t at = 0; at < length && status == STK_OK; at += s->batch_rows_max) {
        uint32_t count = length - at < s->batch_rows_max ? length - at : s->batch_rows_max;
        for (uint32_t i = 0; i < count; i++)
            rows[i] = (stk_row){.sequence = sequence, .position = at + i, .token = tokens[at + i]};
        status = run_batch(s, rows, count);
    }
    return status;
}

// The device is lost, and with it keys and values. Puts them into host memory.
static stk_status leave_device(stk_session *s)
{
    stk_route_hook hook = s->route_hook;
    stk_row *rows = calloc(s->batch_rows_max, sizeof *rows);
    stk_gpu_chain_close(s);
    stk_vk_stream_close(&s->stream);
    stk_status status = rows ? stk_session_take_kv_pages(s, &s->kv_again) : STK_NO_MEMORY;
    s->route_hook = NULL; // it was told of these tokens
    for (uint32_t i = 0; i < s->sequence_count && status == STK_OK; i++)
        status = compute_again(s, i, rows);
    s->route_hook = hook;
    free(rows);
    return status;
}

// Until it worked or failed for another reason than a lost device, which is left behind then.
stk_status stk_session_run(stk_session *s, const stk_row *rows, uint32_t count)
{
    stk_status status = STK_DEVICE_LOST;
    while (status == STK_DEVICE_LOST) {
        status = s->stream && stk_gpu_device_is_lost(s->engine->device) ? leave_device(s) : STK_OK;
        if (status == STK_OK)
            status = run_batch(s, rows, count);
    }
    return status;
}
