// The room where it is built without Vulkan: nothing is supported, and the log says why.
#include "vulkan/chain.h"
#include "vulkan/dense.h"
#include "vulkan/device.h"
#include "vulkan/experts.h"
#include "vulkan/probe.h"
#include "vulkan/run.h"

static stk_status absent(const stk_log *log)
{
    stk_info(log, "vulkan: this program was built without it");
    return STK_UNSUPPORTED;
}

stk_status stk_vk_devices(const stk_log *log, stk_vk_device_info *out, uint32_t *count)
{
    (void)out;
    *count = 0;
    return absent(log);
}

stk_status stk_vk_open(const stk_vk_options *options, stk_vk **out)
{
    (void)out;
    return absent(options->log);
}

void stk_vk_close(stk_vk **vk)
{
    *vk = NULL;
}

const stk_vk_device_info *stk_vk_info(const stk_vk *vk)
{
    (void)vk;
    static const stk_vk_device_info none;
    return &none;
}

uint64_t stk_vk_memory_bytes(const stk_vk *vk)
{
    (void)vk;
    return 0;
}

uint64_t stk_vk_memory_bytes_max(const stk_vk *vk)
{
    (void)vk;
    return 0;
}

uint64_t stk_vk_memory_bytes_max_now(const stk_vk *vk)
{
    (void)vk;
    return 0;
}

uint32_t stk_vk_submission_count(const stk_vk *vk)
{
    (void)vk;
    return 0;
}

uint32_t stk_vk_validation_messages(const stk_vk *vk)
{
    (void)vk;
    return 0;
}

bool stk_vk_cache_was_read(const stk_vk *vk)
{
    (void)vk;
    return false;
}

stk_status stk_vk_probe(stk_vk *vk, uint64_t bytes_max, stk_vk_speeds *out)
{
    (void)vk, (void)bytes_max, (void)out;
    return STK_UNSUPPORTED;
}

stk_status stk_vk_run(stk_vk *vk, stk_vk_shader shader, const stk_vk_run_buffer *buffers,
                      uint32_t buffer_count, const uint32_t *constants, uint32_t constant_count,
                      const uint32_t groups[3])
{
    (void)vk, (void)shader, (void)buffers, (void)buffer_count;
    (void)constants, (void)constant_count, (void)groups;
    return STK_UNSUPPORTED;
}

const char *stk_vk_shader_name(stk_vk_shader shader)
{
    (void)shader;
    return "none";
}

uint64_t stk_vk_experts_bytes(const stk_vk_experts_options *options)
{
    (void)options;
    return 0;
}

stk_status stk_vk_experts_open(const stk_vk_experts_options *options, stk_vk_experts **out)
{
    (void)options, (void)out;
    return STK_UNSUPPORTED;
}

void stk_vk_experts_close(stk_vk_experts **experts)
{
    *experts = NULL;
}

stk_status stk_vk_experts_upload(stk_vk_experts *experts, uint32_t slot, const void *from)
{
    (void)experts, (void)slot, (void)from;
    return STK_UNSUPPORTED;
}

bool stk_vk_experts_can_upload(stk_vk_experts *experts)
{
    (void)experts;
    return false;
}

stk_status stk_vk_experts_upload_poll(stk_vk_experts *experts, uint32_t slot)
{
    (void)experts, (void)slot;
    return STK_UNSUPPORTED;
}

uint32_t stk_vk_experts_resident_slots(const stk_vk_experts *experts)
{
    (void)experts;
    return 0;
}

void stk_vk_experts_shrink(stk_vk_experts *experts, uint32_t slots)
{
    (void)experts, (void)slots;
}

stk_status stk_vk_experts_import(stk_vk_experts *experts, void *host, uint32_t count,
                                 uint32_t *out_first)
{
    (void)experts, (void)host, (void)count, (void)out_first;
    return STK_UNSUPPORTED;
}

stk_status stk_vk_experts_submit(stk_vk_experts *experts, const stk_vk_row *rows,
                                 uint32_t row_count, const stk_vk_pair *pairs, uint32_t pair_count,
                                 uint32_t *out_job)
{
    (void)experts, (void)rows, (void)row_count, (void)pairs, (void)pair_count, (void)out_job;
    return STK_UNSUPPORTED;
}

stk_status stk_vk_experts_poll(stk_vk_experts *experts, uint32_t job)
{
    (void)experts, (void)job;
    return STK_UNSUPPORTED;
}

stk_status stk_vk_experts_wait(stk_vk_experts *experts, uint32_t job)
{
    (void)experts, (void)job;
    return STK_UNSUPPORTED;
}

const float *stk_vk_experts_output(const stk_vk_experts *experts, uint32_t job, uint32_t pair)
{
    (void)experts, (void)job, (void)pair;
    return NULL;
}

void stk_vk_experts_release(stk_vk_experts *experts, uint32_t job)
{
    (void)experts, (void)job;
}

bool stk_vk_dense_supports(const stk_matrix *matrix)
{
    (void)matrix;
    return false;
}

stk_status stk_vk_dense_open(const stk_vk_dense_options *options, stk_vk_dense **out)
{
    (void)options, (void)out;
    return STK_UNSUPPORTED;
}

void stk_vk_dense_close(stk_vk_dense **dense)
{
    *dense = NULL;
}

bool stk_vk_dense_is_in_place(const stk_vk_dense *dense)
{
    (void)dense;
    return false;
}

uint64_t stk_vk_dense_bytes(const stk_vk_dense_options *dense)
{
    (void)dense;
    return 0;
}

uint64_t stk_vk_stream_bytes(const stk_vk_dense_options *dense,
                             const stk_vk_stream_options *options)
{
    (void)dense, (void)options;
    return 0;
}

stk_status stk_vk_stream_open(stk_vk_dense *dense, const stk_vk_stream_options *options,
                              stk_vk_stream **out)
{
    (void)dense, (void)options, (void)out;
    return STK_UNSUPPORTED;
}

void stk_vk_stream_close(stk_vk_stream **stream)
{
    *stream = NULL;
}

stk_status stk_vk_stream_begin(stk_vk_stream *stream, const stk_vk_batch_row *rows, uint32_t count,
                               const float *angles)
{
    (void)stream, (void)rows, (void)count, (void)angles;
    return STK_UNSUPPORTED;
}

stk_status stk_vk_stream_attend(stk_vk_stream *stream, uint32_t layer, const float *x)
{
    (void)stream, (void)layer, (void)x;
    return STK_UNSUPPORTED;
}

stk_status stk_vk_stream_wait(stk_vk_stream *stream, stk_vk_attended *out)
{
    (void)stream, (void)out;
    return STK_UNSUPPORTED;
}

stk_status stk_vk_stream_head(stk_vk_stream *stream, const float *x, const uint32_t *rows,
                              uint32_t count, bool with_logits)
{
    (void)stream, (void)x, (void)rows, (void)count, (void)with_logits;
    return STK_UNSUPPORTED;
}

const float *stk_vk_stream_logits(const stk_vk_stream *stream, uint32_t slot)
{
    (void)stream, (void)slot;
    return NULL;
}

uint32_t stk_vk_stream_best(const stk_vk_stream *stream, uint32_t slot)
{
    (void)stream, (void)slot;
    return 0;
}

stk_status stk_vk_experts_upload_wait(stk_vk_experts *experts, uint32_t slot)
{
    (void)experts, (void)slot;
    return STK_UNSUPPORTED;
}

void stk_vk_experts_assign(stk_vk_experts *experts, uint32_t layer, uint32_t expert, uint32_t slot)
{
    (void)experts, (void)layer, (void)expert, (void)slot;
}

uint64_t stk_vk_chain_bytes(const stk_vk_experts_options *experts, uint32_t used_count)
{
    (void)experts, (void)used_count;
    return 0;
}

stk_status stk_vk_chain_open(const stk_vk_chain_options *options, stk_vk_chain **out)
{
    (void)options, (void)out;
    return STK_UNSUPPORTED;
}

void stk_vk_chain_close(stk_vk_chain **chain)
{
    *chain = NULL;
}

bool stk_vk_chain_has(const stk_vk_chain *chain, uint32_t layer)
{
    (void)chain, (void)layer;
    return false;
}

stk_status stk_vk_chain_run(stk_vk_chain *chain, uint32_t first, uint32_t end, const float *x,
                            const stk_vk_chain_head *head)
{
    (void)chain, (void)first, (void)end, (void)x, (void)head;
    return STK_UNSUPPORTED;
}

stk_status stk_vk_chain_wait(stk_vk_chain *chain)
{
    (void)chain;
    return STK_UNSUPPORTED;
}

const float *stk_vk_chain_x(const stk_vk_chain *chain)
{
    (void)chain;
    return NULL;
}

const stk_vk_choice *stk_vk_chain_chosen(const stk_vk_chain *chain, uint32_t layer)
{
    (void)chain, (void)layer;
    return NULL;
}
