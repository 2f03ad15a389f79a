#include "store/sidecar_format.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/expert_layout.h"

uint64_t stk_sidecar_header_hash(const stk_sidecar_header *header)
{
    return XXH3_64bits(header, offsetof(stk_sidecar_header, hash));
}

static uint64_t data_at(const stk_model *model)
{
    uint64_t sums = (uint64_t)model->layer_count * model->expert_count * sizeof(uint64_t);
    return STK_SIDECAR_PAGE + (sums + STK_SIDECAR_PAGE - 1) / STK_SIDECAR_PAGE * STK_SIDECAR_PAGE;
}

void stk_sidecar_place(const stk_model *model, uint64_t *layer_at, uint64_t *slot_bytes)
{
    uint64_t at = data_at(model);
    for (uint32_t i = 0; i < model->layer_count; i++) {
        layer_at[i] = at;
        slot_bytes[i] = stk_expert_layout_of(model, &model->layers[i]).slot_bytes;
        at += slot_bytes[i] * model->expert_count;
    }
}

// What makes two GGUFs the same to us: every tensor's name, type, shape and place.
static uint64_t directory_hash(const stk_gguf *gguf)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < stk_gguf_tensor_count(gguf); i++) {
        const stk_gguf_tensor *t = stk_gguf_tensor_at(gguf, i);
        uint64_t facts[8] = {t->type->gguf_id, t->dims[0],    t->dims[1],      t->dims[2],
                             t->dims[3],       t->file_index, t->offset_bytes, hash};
        hash = XXH3_64bits_withSeed(t->name.data, t->name.len_bytes,
                                    XXH3_64bits(facts, sizeof facts));
    }
    return hash;
}

stk_status stk_sidecar_describe(const stk_gguf *gguf, const stk_model *model,
                                stk_sidecar_header *out, const stk_log *log)
{
    stk_sidecar_header h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, STK_SIDECAR_MAGIC, sizeof h.magic);
    h.version = STK_SIDECAR_VERSION;
    h.entry_count = model->layer_count * model->expert_count;
    for (uint32_t i = 0; i < stk_gguf_file_count(gguf); i++) {
        struct stat st;
        if (stat(stk_gguf_file_path(gguf, i), &st) != 0)
            return stk_fail(log, STK_IO, "%s: %s", stk_gguf_file_path(gguf, i), strerror(errno));
        uint64_t ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
        h.model_bytes += (uint64_t)st.st_size;
        h.model_mtime_ns = ns > h.model_mtime_ns ? ns : h.model_mtime_ns;
    }
    h.model_hash = directory_hash(gguf);
    h.data_at = data_at(model);
    for (uint32_t i = 0; i < model->layer_count; i++)
        h.data_bytes += stk_expert_layout_of(model, &model->layers[i]).slot_bytes *
                        model->expert_count;
    *out = h;
    return STK_OK;
}
