#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_run.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/gguf_writer.h"
#include "model/synth.h"
#include "store/sidecar.h"

const stk_session_options store_session_options = {
    .context_tokens = 128, .batch_rows_max = 64, .logit_rows_max = 64};

// ---- log ----

static void on_line(void *user, stk_log_level level, const char *line)
{
    store_log *l = user;
    while (__atomic_exchange_n(&l->busy, 1, __ATOMIC_ACQUIRE))
        continue;
    l->errors += level == STK_LOG_ERROR;
    l->warnings += level == STK_LOG_WARN;
    size_t room = sizeof l->text - l->used, length = strlen(line);
    if (length + 2 < room) {
        memcpy(l->text + l->used, line, length);
        l->used += (uint32_t)length;
        l->text[l->used++] = '\n';
        l->text[l->used] = '\0';
    }
    __atomic_store_n(&l->busy, 0, __ATOMIC_RELEASE);
}

void store_log_open(store_log *l)
{
    memset(l, 0, sizeof *l);
    l->log = (stk_log){on_line, NULL, l, STK_LOG_INFO};
}

void store_log_clear(store_log *l)
{
    while (__atomic_exchange_n(&l->busy, 1, __ATOMIC_ACQUIRE))
        continue;
    l->used = l->errors = l->warnings = 0;
    l->text[0] = '\0';
    __atomic_store_n(&l->busy, 0, __ATOMIC_RELEASE);
}

bool store_log_says(store_log *l, const char *text)
{
    while (__atomic_exchange_n(&l->busy, 1, __ATOMIC_ACQUIRE))
        continue;
    bool found = strstr(l->text, text) != NULL;
    __atomic_store_n(&l->busy, 0, __ATOMIC_RELEASE);
    return found;
}

// ---- files ----

static char folder[64];

const char *store_folder(void)
{
    if (!folder[0]) {
        strcpy(folder, "store-test-XXXXXX"); // beside the program: TMPDIR is often a tmpfs
        assert_non_null(mkdtemp(folder));
    }
    return folder;
}

const char *store_path(const char *name)
{
    static char paths[8][256];
    static uint32_t turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", store_folder(), name);
    return path;
}

void store_folder_remove(void)
{
    DIR *d = folder[0] ? opendir(folder) : NULL;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            unlink(store_path(e->d_name));
    if (d) {
        closedir(d);
        rmdir(folder);
    }
    folder[0] = '\0';
}

void store_write_tiny(const char *path, bool transposed, uint64_t seed)
{
    store_write_shape(path, "tiny", transposed, seed);
}

void store_write_shape(const char *path, const char *shape, bool transposed, uint64_t seed)
{
    stk_synth_options o = stk_synth_defaults();
    o.shape = shape;
    o.path = path;
    o.overwrite = true;
    o.seed = seed;
    o.vocab_count = 512;
    o.transpose_down = transposed;
    assert_int_equal(stk_synth_write(&o, NULL), STK_OK);
}

static void copy_keys(const stk_gguf *from, stk_gguf_writer *w)
{
    static const char *const numbers[] = {
        "block_count",          "context_length",
        "embedding_length",     "feed_forward_length",
        "attention.head_count", "expert_feed_forward_length",
        "attention.key_length", "attention.head_count_kv",
        "rope.dimension_count", "attention.value_length",
        "expert_count",         "expert_used_count",
        "expert_gating_func",   "attention.sliding_window",
    };
    static const char *const reals[] = {"rope.freq_base", "attention.layer_norm_rms_epsilon"};
    char key[96];
    uint64_t value;
    double real;
    stk_gguf_writer_string(w, "general.architecture", stk_str_of("smallthinker"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        snprintf(key, sizeof key, "smallthinker.%s", numbers[i]);
        if (stk_gguf_u64(from, key, &value))
            stk_gguf_writer_u32(w, key, (uint32_t)value);
    }
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        snprintf(key, sizeof key, "smallthinker.%s", reals[i]);
        if (stk_gguf_f64(from, key, &real))
            stk_gguf_writer_f32(w, key, (float)real);
    }
}

static const stk_type *type_for(const stk_gguf_tensor *t, const stk_type *gate, const stk_type *up,
                                const stk_type *down)
{
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)t->name.len_bytes, t->name.data);
    const stk_type *type = strstr(name, "ffn_gate_exps")   ? gate
                           : strstr(name, "ffn_up_exps")   ? up
                           : strstr(name, "ffn_down_exps") ? down
                                                           : NULL;
    return type ? type : t->type;
}

// The tensor's bytes as `type`, row by row.
static void append_converted(stk_gguf_writer *w, FILE *f, const stk_gguf_tensor *t,
                             const stk_type *type)
{
    uint64_t cols = t->dims[0], rows = t->dims[1] * t->dims[2] * t->dims[3];
    uint64_t from_bytes = stk_type_row_bytes(t->type, cols),
             to_bytes = stk_type_row_bytes(type, cols);
    void *from = malloc(from_bytes), *to = malloc(to_bytes);
    float *values = malloc(cols * sizeof *values);
    assert_int_equal(fseek(f, (long)t->offset_bytes, SEEK_SET), 0);
    for (uint64_t r = 0; r < rows; r++) {
        assert_int_equal(fread(from, from_bytes, 1, f), 1);
        if (type != t->type) {
            t->type->dequantize(from, values, cols);
            type->quantize(values, to, cols);
        }
        assert_int_equal(stk_gguf_writer_append(w, type == t->type ? from : to, to_bytes), STK_OK);
    }
    free(from);
    free(to);
    free(values);
}

static void convert_file(const char *from_path, const stk_gguf *from, const char *path,
                         const stk_type *types[3], uint32_t no, uint32_t count)
{
    stk_gguf_writer *w;
    const stk_gguf_writer_options options = {.path = path, .overwrite = true};
    assert_int_equal(stk_gguf_writer_open(&options, NULL, &w), STK_OK);
    uint32_t total = stk_gguf_tensor_count(from);
    uint32_t begin = total * no / count, end = total * (no + 1) / count;
    if (no == 0)
        copy_keys(from, w);
    if (count > 1) {
        stk_gguf_writer_u16(w, "split.no", (uint16_t)no);
        stk_gguf_writer_u16(w, "split.count", (uint16_t)count);
        stk_gguf_writer_i32(w, "split.tensors.count", (int32_t)total);
    }
    for (uint32_t i = begin; i < end; i++) {
        const stk_gguf_tensor *t = stk_gguf_tensor_at(from, i);
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len_bytes, t->name.data);
        stk_gguf_writer_tensor(w, name, type_for(t, types[0], types[1], types[2]), t->dims,
                               t->dim_count);
    }
    FILE *f = fopen(from_path, "rb");
    assert_non_null(f);
    for (uint32_t i = begin; i < end; i++) {
        const stk_gguf_tensor *t = stk_gguf_tensor_at(from, i);
        append_converted(w, f, t, type_for(t, types[0], types[1], types[2]));
    }
    fclose(f);
    assert_int_equal(stk_gguf_writer_finish(&w), STK_OK);
}

const char *store_convert(const char *from_path, const char *name, const stk_type *gate,
                          const stk_type *up, const stk_type *down, uint32_t files)
{
    stk_gguf *from;
    const stk_type *types[3] = {gate, up, down};
    char file[128];
    assert_int_equal(stk_gguf_open(from_path, NULL, &from), STK_OK);
    for (uint32_t i = files; i-- > 0;) {
        if (files == 1)
            snprintf(file, sizeof file, "%s.gguf", name);
        else
            snprintf(file, sizeof file, "%s-%05u-of-%05u.gguf", name, i + 1, files);
        convert_file(from_path, from, store_path(file), types, i, files);
    }
    stk_gguf_close(&from);
    return store_path(file);
}

void store_pack(const char *model_path, const char *sidecar_path)
{
    stk_gguf *gguf;
    stk_model model;
    assert_int_equal(stk_gguf_open(model_path, NULL, &gguf), STK_OK);
    assert_int_equal(stk_model_load(gguf, NULL, &model), STK_OK);
    assert_int_equal(stk_sidecar_write(sidecar_path, gguf, &model, NULL, NULL), STK_OK);
    stk_model_free(&model);
    stk_gguf_close(&gguf);
}

// ---- a store without an engine ----

void store_alone_open(store_alone *a, const char *model_path, const char *sidecar_path,
                      uint32_t slots)
{
    store_log_open(&a->log);
    assert_int_equal(stk_gguf_open(model_path, NULL, &a->gguf), STK_OK);
    assert_int_equal(stk_model_load(a->gguf, NULL, &a->model), STK_OK);
    assert_int_equal(stk_team_open(&(stk_team_options){.worker_count = 1}, &a->team), STK_OK);
    const stk_expert_store_options options = {.gguf = a->gguf,
                                              .model = &a->model,
                                              .team = a->team,
                                              .log = &a->log.log,
                                              .cache_bytes = slots *
                                                             stk_expert_store_slot_bytes(&a->model),
                                              .sidecar = sidecar_path,
                                              .policy = "lru"};
    assert_int_equal(stk_expert_store_open(&options, &a->store), STK_OK);
}

void store_alone_close(store_alone *a)
{
    stk_expert_store_close(&a->store);
    stk_team_close(&a->team);
    stk_model_free(&a->model);
    stk_gguf_close(&a->gguf);
}

bool store_has(stk_expert_store *store, uint32_t layer, uint32_t expert)
{
    stk_expert unused;
    return stk_expert_store_poll(store, layer, expert, &unused) == STK_OK;
}

// ---- runs ----

// A limit counts what the program holds already, which sanitizers make large and restless: what
// the plan says without one is where the search starts.
static uint64_t likely_limit(const stk_engine_options *options)
{
    stk_engine_options o = *options;
    stk_engine *engine;
    o.log = NULL;
    o.memory_bytes = 0;
    o.io = STK_IO_AUTO;
    assert_int_equal(stk_engine_open(&o, &engine), STK_OK);
    const stk_memory_plan *p = stk_engine_memory(engine);
    uint64_t limit = p->total_bytes - p->cache_bytes / 5 +
                     stk_expert_store_overhead_bytes(stk_engine_model(engine));
    stk_engine_close(&engine);
    return limit;
}

stk_engine *store_open_limited(const stk_engine_options *options)
{
    stk_engine_options o = *options;
    stk_engine *engine = NULL;
    o.planned_session = &store_session_options;
    o.memory_bytes = likely_limit(&o);
    for (int tries = 0; tries < 40; tries++) {
        stk_status status = stk_engine_open(&o, &engine);
        if (status == STK_NO_MEMORY) {
            o.memory_bytes += 2u << 20;
            continue;
        }
        assert_int_equal(status, STK_OK);
        const stk_memory_plan *p = stk_engine_memory(engine);
        bool resident = stk_expert_store_is_resident(stk_engine_store(engine));
        if (!resident && 10 * p->slots >= 6 * p->experts)
            return engine;
        uint64_t slot = stk_expert_store_slot_bytes(stk_engine_model(engine));
        if (resident)
            o.memory_bytes -= p->experts * slot / 10;
        else
            o.memory_bytes += (p->experts * 4 / 5 - p->slots) * slot;
        stk_engine_close(&engine);
    }
    fail_msg("no limit was found that holds most experts");
    return NULL;
}

void store_slots(stk_engine *engine, uint32_t percent)
{
    stk_expert_store *store = stk_engine_store(engine);
    uint32_t slots = stk_engine_memory(engine)->experts * percent / 100;
    uint32_t least = stk_expert_store_slots_min(stk_engine_model(engine));
    uint32_t want = slots < least ? least : slots;
    assert_int_equal(stk_expert_store_set_slots(store, slots), want);
}

stk_session *store_session(stk_engine *engine)
{
    stk_session *session;
    assert_int_equal(stk_session_open(engine, &store_session_options, &session), STK_OK);
    return session;
}

static void forward(stk_session *session, const stk_row *rows, uint32_t count, store_result *r,
                    uint32_t *failures)
{
    enum { TRIES = 4 };
    stk_status status = STK_IO;
    for (int i = 0; i < TRIES && status == STK_IO; i++) {
        status = stk_session_forward(session, rows, count);
        if (status == STK_IO && !failures)
            fail_msg("a forward pass failed");
        if (status == STK_IO)
            ++*failures;
    }
    assert_int_equal(status, STK_OK);
    for (uint32_t i = 0; i < count; i++)
        memcpy(r->logits + (size_t)(r->rows++) * r->vocab, stk_session_logits(session, i),
               r->vocab * sizeof(float));
}

static int32_t likeliest(const float *logits, uint32_t vocab)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

// The vocabulary of a session is not in its interface; the tests keep the engine's model at hand.
static uint32_t vocab_size;

store_result store_run(stk_session *session, uint32_t batch_rows, uint32_t prompt, uint32_t decode,
                       uint32_t *failures)
{
    store_result r = {.vocab = vocab_size};
    stk_row rows[64];
    r.logits = malloc((size_t)(prompt + decode) * r.vocab * sizeof(float));
    assert_non_null(r.logits);
    assert_int_equal(stk_session_truncate(session, 0, 0), STK_OK);
    for (uint32_t done = 0; done < prompt;) {
        uint32_t count = prompt - done < batch_rows ? prompt - done : batch_rows;
        for (uint32_t i = 0; i < count; i++)
            rows[i] = (stk_row){.position = done + i,
                                .token = (int32_t)((done + i) * 37 + 5) % 256,
                                .logits = true};
        forward(session, rows, count, &r, failures);
        done += count;
    }
    for (uint32_t i = 0; i < decode; i++) {
        int32_t token = likeliest(r.logits + (size_t)(r.rows - 1) * r.vocab, r.vocab);
        rows[0] = (stk_row){.position = prompt + i, .token = token, .logits = true};
        forward(session, rows, 1, &r, failures);
    }
    return r;
}

void store_assert_same(const store_result *a, const store_result *b, const char *what)
{
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->vocab, b->vocab);
    for (uint32_t i = 0; i < a->rows; i++)
        if (memcmp(a->logits + (size_t)i * a->vocab, b->logits + (size_t)i * a->vocab,
                   a->vocab * sizeof(float)) != 0)
            fail_msg("%s: the logits of row %u differ", what, i);
}

void store_result_free(store_result *r)
{
    free(r->logits);
    r->logits = NULL;
}

store_result store_reference(const char *model_path, uint32_t prompt, uint32_t decode)
{
    const stk_engine_options options = {.model_path = model_path,
                                        .thread_count = 1,
                                        .ignores_sidecar = true,
                                        .ignores_usage = true,
                                        .planned_session = &store_session_options};
    stk_engine *engine;
    assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
    assert_true(stk_expert_store_is_resident(stk_engine_store(engine)));
    vocab_size = stk_engine_model(engine)->vocab_size;
    stk_session *session = store_session(engine);
    store_result r = store_run(session, 64, prompt, decode, NULL);
    stk_session_close(&session);
    stk_engine_close(&engine);
    return r;
}
