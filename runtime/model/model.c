#include "model/model.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/arch.h"

#define STK_ARCH(symbol) extern const stk_arch stk_arch_##symbol;
#include "model/architectures.def"
#undef STK_ARCH

static const stk_arch *const architectures[] = {
#define STK_ARCH(symbol) &stk_arch_##symbol,
#include "model/architectures.def"
#undef STK_ARCH
};

void stk_arch_fail(stk_arch_reader *r, stk_status status, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    stk_error(r->log, "%s: %s", stk_gguf_file_path(r->gguf, 0), line);
    if (r->status == STK_OK)
        r->status = status;
}

static void full_key(const stk_arch_reader *r, const char *key, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "%s.%s", r->prefix, key);
}

uint32_t stk_arch_u32(stk_arch_reader *r, const char *key, uint32_t least, uint32_t most,
                      uint64_t fallback)
{
    char name[128];
    uint64_t value = fallback;
    full_key(r, key, name, sizeof name);
    if (!stk_gguf_u64(r->gguf, name, &value) && fallback == STK_ARCH_REQUIRED) {
        stk_arch_fail(r, STK_FORMAT, "key '%s' is %s; the model cannot be described without it",
                      name, stk_gguf_has(r->gguf, name) ? "not an unsigned integer" : "missing");
        return least;
    }
    if (value < least || value > most) {
        stk_arch_fail(r, STK_FORMAT, "key '%s' is %" PRIu64 ", must be %u to %u", name, value,
                      least, most);
        return least;
    }
    return (uint32_t)value;
}

float stk_arch_f32(stk_arch_reader *r, const char *key, float fallback)
{
    char name[128];
    double value = (double)fallback;
    full_key(r, key, name, sizeof name);
    if (!stk_gguf_f64(r->gguf, name, &value) && fallback == 0) {
        stk_arch_fail(r, STK_FORMAT, "key '%s' is missing or not a float", name);
        return 1;
    }
    if (!(value > 0 && value < 1e30)) {
        stk_arch_fail(r, STK_FORMAT, "key '%s' is %g, must be positive", name, value);
        return 1;
    }
    return (float)value;
}

static void describe_dims(const uint64_t *dims, uint32_t count, char *out, size_t out_bytes)
{
    size_t at = 0;
    for (uint32_t i = 0; i < count && at < out_bytes; i++)
        at += (size_t)snprintf(out + at, out_bytes - at, "%s%" PRIu64, i ? " x " : "", dims[i]);
}

const stk_gguf_tensor *stk_arch_tensor(stk_arch_reader *r, int layer, const char *name,
                                       _Bool optional, const uint64_t *dims)
{
    char full[96];
    if (layer >= 0)
        snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    else
        snprintf(full, sizeof full, "%s", name);
    const stk_gguf_tensor *tensor = stk_gguf_tensor_find(r->gguf, full);
    if (!tensor) {
        if (!optional)
            stk_arch_fail(r, STK_FORMAT, "tensor '%s' is missing", full);
        return NULL;
    }
    r->tensors_used++;
    uint32_t count = 0;
    while (count < STK_GGUF_DIMS_MAX && dims[count] != 0)
        count++;
    for (uint32_t i = 0; i < STK_GGUF_DIMS_MAX; i++) {
        if (tensor->dims[i] == (i < count ? dims[i] : 1))
            continue;
        char has[96], needs[96];
        describe_dims(tensor->dims, tensor->dim_count, has, sizeof has);
        describe_dims(dims, count, needs, sizeof needs);
        stk_arch_fail(r, STK_FORMAT, "tensor '%s' is %s, the model's sizes need %s", full, has,
                      needs);
        return NULL;
    }
    return tensor;
}

_Bool stk_arch_alloc_layers(stk_arch_reader *r)
{
    r->model->layer_total = r->model->layer_count;
    r->model->all_layers = calloc(r->model->layer_count, sizeof *r->model->layers);
    r->model->layers = r->model->all_layers;
    if (!r->model->layers && r->status == STK_OK)
        r->status = STK_NO_MEMORY;
    return r->model->layers != NULL;
}

static const stk_arch *find_architecture(stk_str name)
{
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (stk_str_is(name, architectures[i]->name))
            return architectures[i];
    return NULL;
}

// The engine works on whole blocks of 32 values.
static void check_multiples(stk_arch_reader *r)
{
    const stk_model *m = r->model;
    if (m->width % 32 != 0 || m->ffn_width % 32 != 0)
        stk_arch_fail(r, STK_UNSUPPORTED, "width %u and expert width %u must be multiples of 32",
                      m->width, m->ffn_width);
    if (m->head_dim % 16 != 0 || m->head_dim * m->head_count % 32 != 0)
        stk_arch_fail(r, STK_UNSUPPORTED,
                      "head dimension %u must be a multiple of 16 and all %u heads of 32",
                      m->head_dim, m->head_count);
}

stk_status stk_model_load(const stk_gguf *gguf, const stk_log *log, stk_model *out)
{
    const char *path = stk_gguf_file_path(gguf, 0);
    stk_str name;
    if (!stk_gguf_string(gguf, "general.architecture", &name))
        return stk_fail(log, STK_FORMAT, "%s: key 'general.architecture' is missing", path);
    const stk_arch *arch = find_architecture(name);
    if (!arch)
        return stk_fail(log, STK_UNSUPPORTED,
                        "%s: architecture '%.*s' is not supported; this version runs smallthinker",
                        path, (int)(name.len_bytes < 64 ? name.len_bytes : 64), name.data);
    stk_model model = {.architecture = arch->name};
    stk_gguf_string(gguf, "general.name", &model.name);
    stk_arch_reader reader = {
        .gguf = gguf, .log = log, .prefix = arch->name, .model = &model, .status = STK_OK};
    arch->load(&reader);
    if (reader.status == STK_OK)
        check_multiples(&reader);
    if (reader.status != STK_OK) {
        stk_model_free(&model);
        return reader.status;
    }
    model.tensors_ignored = stk_gguf_tensor_count(gguf) - reader.tensors_used;
    if (model.tensors_ignored > 0)
        stk_info(log, "%s: %u tensors are unknown to %s and ignored", path, model.tensors_ignored,
                 arch->name);
    *out = model;
    return STK_OK;
}

void stk_model_free(stk_model *model)
{
    free(model->all_layers);
    memset(model, 0, sizeof *model);
}

void stk_model_cut(stk_model *model, uint32_t first, uint32_t end)
{
    assert(first < end && end <= model->layer_total);
    model->layer_first = first;
    model->layer_count = end - first;
    model->layers = model->all_layers + first;
}

stk_model stk_model_whole(const stk_model *model)
{
    stk_model whole = *model;
    if (whole.all_layers)
        stk_model_cut(&whole, 0, whole.layer_total);
    return whole;
}
