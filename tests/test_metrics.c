// What the counters of a session say must be what the model's shapes say: bytes by component for
// synthetic models whose sizes are written out here, and for the bundled model from its file.
#include "gguf_make.h"

#include "engine/metrics.h"
#include "model/matrix.h"
#include "model/synth.h"
#include <string.h>

// The shape "tiny", as model/synth.c has it.
enum {
    LAYERS = 8,
    WIDTH = 256,
    HEAD_DIM = 64,
    HEADS = 4,
    KV_HEADS = 2,
    FFN = 128,
    EXPERTS = 16,
    USED = 4,
    VOCAB = 512,
    GROUPS = FFN / 32,
    WINDOW = 6,
    TOKENS = 11,
};

static const int32_t text[TOKENS] = {300, 17, 42, 42, 255, 301, 99, 7, 310, 128, 5};

// Bytes of Q4_0 weights: 18 for 32. No row or column of this shape needs padding.
static uint64_t q4(uint64_t weights)
{
    return weights / 32 * 18;
}

typedef struct run {
    stk_engine *engine;
    stk_session *session;
    const stk_metrics *metrics;
} run;

static run open_run(const char *path, uint32_t threads, uint32_t trace_forwards)
{
    const stk_engine_options engine = {
        .model_path = path, .log = &test_log, .thread_count = threads};
    const stk_session_options session = {.context_tokens = 64, .trace_forwards = trace_forwards};
    run r;
    if (stk_engine_open(&engine, &r.engine) != STK_OK ||
        stk_session_open(r.engine, &session, &r.session) != STK_OK)
        fail_msg("%s", last_line);
    r.metrics = stk_session_metrics(r.session);
    return r;
}

static void close_run(run *r)
{
    stk_session_close(&r->session);
    stk_engine_close(&r->engine);
}

// Feeds text[begin..end) in one forward; the last row asks for logits.
static void feed(run *r, uint32_t begin, uint32_t end)
{
    stk_row rows[TOKENS];
    memset(rows, 0, sizeof rows);
    for (uint32_t i = begin; i < end; i++)
        rows[i - begin] = (stk_row){.position = i, .token = text[i], .logits = i + 1 == end};
    assert_int_equal(stk_session_forward(r->session, rows, end - begin), STK_OK);
    r->metrics = stk_session_metrics(r->session);
}

static const char *synth(const char *name, bool transpose_down)
{
    stk_synth_options options = stk_synth_defaults();
    options.shape = "tiny";
    options.path = in_folder(name);
    options.vocab_count = VOCAB;
    options.window = WINDOW;
    options.transpose_down = transpose_down;
    options.overwrite = true;
    if (stk_synth_write(&options, &test_log) != STK_OK)
        fail_msg("%s", last_line);
    return options.path;
}

// A synthetic model's gates see nothing but the bias in channel 0 (model/synth.h), turned positive:
// every neuron is active.
static void make_dense(const char *path)
{
    const float norm[WIDTH] = {-1};
    stk_gguf *gguf;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(stk_gguf_open(path, &test_log, &gguf), STK_OK);
    for (int i = 0; i < LAYERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", i);
        const stk_gguf_tensor *tensor = stk_gguf_tensor_find(gguf, name);
        assert_non_null(tensor);
        assert_int_equal(pwrite(fd, norm, sizeof norm, (off_t)tensor->offset_bytes), sizeof norm);
    }
    stk_gguf_close(&gguf);
    close(fd);
}

static uint64_t sum(const uint64_t *values, uint32_t count)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += values[i];
    return total;
}

// Positions visible from 0..count-1 over all layers: every fourth layer sees everything.
static uint64_t visible(uint32_t position)
{
    uint64_t all = position + 1, window = all < WINDOW ? all : WINDOW;
    return LAYERS / 4 * all + (LAYERS - LAYERS / 4) * window;
}

static void check_dense_parts(const stk_metrics *m, uint64_t forwards)
{
    uint64_t attention = q4(2 * HEADS * HEAD_DIM * WIDTH + 2 * KV_HEADS * HEAD_DIM * WIDTH);
    assert_int_equal(m->forwards, forwards);
    assert_int_equal(m->bytes[STK_COMPONENT_EMBEDDING], m->tokens * q4(WIDTH));
    assert_int_equal(m->bytes[STK_COMPONENT_ATTENTION],
                     forwards * LAYERS * (attention + 2 * 4 * WIDTH));
    assert_int_equal(m->bytes[STK_COMPONENT_ROUTER], forwards * LAYERS * 4 * WIDTH * EXPERTS);
    assert_int_equal(m->bytes[STK_COMPONENT_HEAD], forwards * (q4(WIDTH * VOCAB) + 4 * WIDTH));
    assert_int_equal(sum(m->expert_use, LAYERS * EXPERTS), m->tokens * LAYERS * USED);
    assert_int_equal(stk_metrics_bytes(m), sum(m->bytes, STK_COMPONENT_COUNT));
}

// Every neuron is active: nothing is skipped.
static void test_decode(void **unused)
{
    (void)unused;
    for (int transposed = 0; transposed < 2; transposed++) {
        const char *path = synth("dense.gguf", transposed);
        make_dense(path);
        run r = open_run(path, 2, 0);
        uint64_t kv = 0;
        for (uint32_t i = 0; i < TOKENS; i++) {
            feed(&r, i, i + 1);
            kv += visible(i) * 2 * KV_HEADS * HEAD_DIM * 2;
        }
        const stk_metrics *m = r.metrics;
        uint64_t pairs = TOKENS * LAYERS * USED, active = sum(m->active_neurons, LAYERS);
        check_dense_parts(m, TOKENS);
        assert_int_equal(m->tokens, TOKENS);
        assert_int_equal(m->bytes[STK_COMPONENT_KV], kv);
        assert_int_equal(m->operations[STK_COMPONENT_KV], kv / KV_HEADS * HEADS);
        assert_int_equal(m->bytes[STK_COMPONENT_GATE], pairs * q4(FFN * WIDTH));
        assert_int_equal(active, pairs * FFN);
        assert_int_equal(sum(m->gated_neurons, LAYERS), pairs * FFN);
        assert_int_equal(stk_metrics_gpu_bytes(m), 0);
        // An up row is 144 bytes of nibbles and scales, padded to 192.
        assert_int_equal(m->bytes[STK_COMPONENT_UP], active * 192);
        if (transposed)
            assert_int_equal(m->bytes[STK_COMPONENT_DOWN], active * 192);
        else
            assert_int_equal(m->bytes[STK_COMPONENT_DOWN],
                             active * WIDTH / 2 + pairs * GROUPS * WIDTH * 2);
        assert_int_equal(m->operations[STK_COMPONENT_GATE], pairs * 2 * FFN * WIDTH);
        assert_int_equal(m->operations[STK_COMPONENT_DOWN], 2 * active * WIDTH);
        assert_int_equal(m->operations[STK_COMPONENT_HEAD], TOKENS * 2 * VOCAB * WIDTH);
        assert_int_equal(stk_metrics_operations(m), sum(m->operations, STK_COMPONENT_COUNT));
        close_run(&r);
    }
}

// A batch reads each weight once, chooses the same experts and leaves the same neurons active.
static void test_batch(void **unused)
{
    (void)unused;
    const char *path = synth("sparse.gguf", false);
    run one = open_run(path, 1, 0);
    for (uint32_t i = 0; i < TOKENS; i++)
        feed(&one, i, i + 1);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        run r = open_run(path, threads, 0);
        feed(&r, 0, 2); // few rows: experts are shared out in parts
        feed(&r, 2, TOKENS);
        const stk_metrics *m = r.metrics;
        check_dense_parts(m, 2);
        assert_int_equal(m->tokens, TOKENS);
        assert_memory_equal(m->expert_use, one.metrics->expert_use,
                            LAYERS * EXPERTS * sizeof *m->expert_use);
        assert_memory_equal(m->active_neurons, one.metrics->active_neurons,
                            LAYERS * sizeof *m->active_neurons);
        assert_memory_equal(m->gated_neurons, one.metrics->gated_neurons,
                            LAYERS * sizeof *m->gated_neurons);
        assert_memory_equal(m->operations + STK_COMPONENT_GATE,
                            one.metrics->operations + STK_COMPONENT_GATE, 3 * sizeof(uint64_t));
        uint64_t positions = 0; // those of the first row, and one for each later one
        positions += visible(0) + LAYERS + visible(2) + (TOKENS - 3) * LAYERS;
        assert_int_equal(m->bytes[STK_COMPONENT_KV], positions * 2 * KV_HEADS * HEAD_DIM * 2);
        // At most each expert once per layer and forward, at least as many as one row uses.
        uint64_t gates = m->bytes[STK_COMPONENT_GATE] / q4(FFN * WIDTH);
        assert_int_equal(m->bytes[STK_COMPONENT_GATE] % q4(FFN * WIDTH), 0);
        assert_true(gates >= 2 * LAYERS * USED && gates <= 2 * LAYERS * EXPERTS);
        assert_true(gates < TOKENS * LAYERS * USED);
        uint64_t up = m->bytes[STK_COMPONENT_UP];
        assert_true(up % 192 == 0 && up < one.metrics->bytes[STK_COMPONENT_UP]);
        assert_true(up <= gates * FFN * 192);
        assert_true(up > one.metrics->bytes[STK_COMPONENT_UP] / (TOKENS - 2));
        close_run(&r);
    }
    close_run(&one);
}

// Bytes of the same token in counts[i] sequences at once: alone, in parts, whole experts.
enum { SAME = 3 };
static const uint32_t same_counts[SAME] = {1, 2, 20};

static void feed_same(const char *path, const char *mask, uint64_t bytes[SAME][STK_COMPONENT_COUNT])
{
    const stk_engine_options options = {
        .model_path = path, .log = &test_log, .thread_count = 2, .cpu_mask = mask};
    const stk_session_options session_options = {.context_tokens = 64, .sequence_count = 20};
    stk_engine *engine;
    stk_session *session;
    assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
    assert_int_equal(stk_session_open(engine, &session_options, &session), STK_OK);
    for (int i = 0; i < SAME; i++) {
        stk_row rows[20];
        memset(rows, 0, sizeof rows);
        for (uint32_t k = 0; k < same_counts[i]; k++) {
            rows[k] = (stk_row){.sequence = k, .token = 42};
            assert_int_equal(stk_session_truncate(session, k, 0), STK_OK);
        }
        stk_session_metrics_reset(session);
        assert_int_equal(stk_session_forward(session, rows, same_counts[i]), STK_OK);
        memcpy(bytes[i], stk_session_metrics(session)->bytes, sizeof bytes[i]);
        assert_int_equal(bytes[i][STK_COMPONENT_HEAD], 0); // nobody asked for logits
    }
    stk_session_close(&session);
    stk_engine_close(&engine);
}

// The union over rows, exactly: the same token twice in a batch reads nothing more, but where a
// kernel for many rows reads every neuron.
static void test_same_rows(void **unused)
{
    (void)unused;
    static const char *const masks[] = {"scalar", NULL};
    const uint64_t neurons = LAYERS * USED * FFN, groups = LAYERS * USED * GROUPS;
    const char *path = synth("same.gguf", false);
    for (int m = 0; m < 2; m++) {
        uint64_t bytes[SAME][STK_COMPONENT_COUNT];
        feed_same(path, masks[m], bytes);
        bool is_whole = bytes[2][STK_COMPONENT_UP] != bytes[0][STK_COMPONENT_UP];
        assert_false(is_whole && m == 0);
        for (int i = 1; i < SAME; i++)
            for (int c = 0; c < STK_COMPONENT_COUNT; c++) {
                bool per_row = c == STK_COMPONENT_EMBEDDING || c == STK_COMPONENT_KV;
                uint64_t want = bytes[0][c] * (per_row ? same_counts[i] : 1);
                if (is_whole && i == 2 && c == STK_COMPONENT_UP)
                    want = neurons * 192;
                if (is_whole && i == 2 && c == STK_COMPONENT_DOWN)
                    want = neurons * WIDTH / 2 + groups * WIDTH * 2;
                assert_int_equal(bytes[i][c], want);
            }
    }
}

static void test_timing(void **unused)
{
    (void)unused;
    run r = open_run(synth("timed.gguf", false), 2, 2);
    stk_span spans[400];
    feed(&r, 0, 1);
    for (uint32_t layer = 0; layer <= LAYERS; layer++)
        assert_int_equal(sum(r.metrics->busy_ns[layer], STK_PHASE_COUNT), 0);
    assert_int_equal(stk_session_spans(r.session, 0, spans, 400), 0);

    stk_session_set_timing(r.session, true);
    feed(&r, 1, 2);
    // Attention's result has no phase of its own where two workers finish a KV head each.
    const uint32_t in_layer = STK_PHASE_COMBINE - STK_PHASE_PROJECT;
    const uint32_t per_forward = 3 + LAYERS * in_layer; // embed, norm, head
    uint64_t busy = 0, first = UINT64_MAX, last = 0;
    for (uint32_t layer = 0; layer <= LAYERS; layer++) {
        for (int p = 0; p < STK_PHASE_COUNT; p++) {
            bool outside = p < STK_PHASE_PROJECT || p > STK_PHASE_COMBINE;
            if (outside != (layer == LAYERS)) // no such phase there
                assert_int_equal(r.metrics->busy_ns[layer][p] + r.metrics->wait_ns[layer][p], 0);
            busy += r.metrics->busy_ns[layer][p] + r.metrics->wait_ns[layer][p];
        }
    }
    for (uint32_t w = 0; w < 2; w++) {
        assert_int_equal(stk_session_spans(r.session, w, spans, 400), per_forward);
        for (uint32_t i = 0; i < per_forward; i++) {
            assert_true(spans[i].begin_ns <= spans[i].end_ns);
            assert_true(spans[i].end_ns <= spans[i].released_ns);
            if (i > 0)
                assert_int_equal(spans[i].begin_ns, spans[i - 1].released_ns);
            if (w == 0 && spans[i].begin_ns < first)
                first = spans[i].begin_ns;
            if (w == 0)
                last = spans[i].released_ns;
        }
        assert_int_equal(spans[0].phase, STK_PHASE_EMBED);
        assert_int_equal(spans[per_forward - 1].phase, STK_PHASE_HEAD);
    }
    assert_int_equal(busy, last - first); // worker 0's time is all accounted for
    for (uint32_t i = 2; i < 7; i++)      // the ring keeps the newest
        feed(&r, i, i + 1);
    uint32_t count = stk_session_spans(r.session, 1, spans, 400);
    assert_true(count >= 2 * per_forward && count < 400);
    assert_int_equal(spans[count - 1].phase, STK_PHASE_HEAD);
    assert_int_equal(stk_session_spans(r.session, 1, spans, 1), 1);
    assert_int_equal(spans[0].phase, STK_PHASE_HEAD);
    assert_int_equal(stk_session_spans(r.session, 2, spans, 1), 0);

    stk_session_metrics_reset(r.session);
    const stk_metrics *m = stk_session_metrics(r.session);
    assert_int_equal(stk_session_spans(r.session, 0, spans, 400), 0);
    assert_int_equal(stk_metrics_bytes(m) + stk_metrics_operations(m) + m->tokens, 0);
    assert_int_equal(sum(m->expert_use, LAYERS * EXPERTS), 0);
    assert_int_equal(sum(m->active_neurons, LAYERS), 0);
    assert_int_equal(sum(m->busy_ns[0], STK_PHASE_COUNT), 0);
    close_run(&r);
}

// Against the bundled file: what it stores, except the padding of kernel layouts.
static void test_bundled(void **unused)
{
    (void)unused;
    const char *path = STK_MODELS "/stories-q4_0.gguf";
    if (access(path, R_OK) != 0)
        skip();
    run r = open_run(path, 2, 0);
    const stk_model *model = stk_engine_model(r.engine);
    for (uint32_t i = 0; i < TOKENS; i++)
        feed(&r, i, i + 1);
    const stk_metrics *m = r.metrics;
    uint64_t attention = 0, router = 0, gate = 0, kv = 0;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        const stk_layer *l = &model->layers[i];
        attention += l->attn_norm->size_bytes + l->ffn_norm->size_bytes + l->attn_q->size_bytes +
                     l->attn_k->size_bytes + l->attn_v->size_bytes + l->attn_output->size_bytes;
        router += l->router->size_bytes;
        gate += l->gate_experts->size_bytes / model->expert_count * model->expert_used_count;
        const uint64_t *use = m->expert_use + (size_t)i * model->expert_count;
        assert_int_equal(sum(use, model->expert_count), TOKENS * model->expert_used_count);
        assert_true(m->active_neurons[i] <
                    TOKENS * model->expert_used_count * (uint64_t)model->ffn_width);
        assert_true(l->window_tokens == 0 || l->window_tokens >= TOKENS);
    }
    for (uint32_t i = 0; i < TOKENS; i++)
        kv += (uint64_t)model->layer_count * (i + 1) * 4 * model->kv_head_count * model->head_dim;
    assert_int_equal(m->bytes[STK_COMPONENT_ATTENTION], TOKENS * attention);
    assert_int_equal(m->bytes[STK_COMPONENT_ROUTER], TOKENS * router);
    assert_int_equal(m->bytes[STK_COMPONENT_GATE], TOKENS * gate);
    assert_int_equal(m->bytes[STK_COMPONENT_KV], kv);
    assert_int_equal(m->bytes[STK_COMPONENT_HEAD],
                     TOKENS * (model->output->size_bytes + model->output_norm->size_bytes));
    uint64_t row = model->token_embd->size_bytes / model->vocab_size;
    assert_int_equal(m->bytes[STK_COMPONENT_EMBEDDING], TOKENS * row);
    stk_bundle bundle = stk_bundle_of(model->width, model->ffn_width,
                                      model->down_layout == STK_DOWN_ROWS_ARE_NEURONS);
    uint64_t active = sum(m->active_neurons, model->layer_count);
    assert_true(active > 0);
    assert_int_equal(m->bytes[STK_COMPONENT_UP], active * bundle.up_bytes);
    uint64_t runs = active * (bundle.run_bytes - bundle.up_bytes);
    uint64_t pairs = TOKENS * (uint64_t)model->layer_count * model->expert_used_count;
    assert_true(m->bytes[STK_COMPONENT_DOWN] > runs);
    assert_int_equal((m->bytes[STK_COMPONENT_DOWN] - runs) % bundle.scales_bytes, 0);
    assert_true(m->bytes[STK_COMPONENT_DOWN] <=
                runs + pairs * (model->ffn_width / 32) * bundle.scales_bytes);
    close_run(&r);
}

static void test_names(void **unused)
{
    (void)unused;
    for (int i = 0; i < STK_COMPONENT_COUNT; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(stk_component_name((stk_component)i),
                                    stk_component_name((stk_component)k));
    for (int i = 0; i < STK_PHASE_COUNT; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(stk_phase_name((stk_phase)i), stk_phase_name((stk_phase)k));
    assert_string_equal(stk_phase_name(STK_PHASE_COUNT), "unknown");
    assert_string_equal(stk_component_name(STK_COMPONENT_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),  cmocka_unit_test(test_decode),
        cmocka_unit_test(test_batch),  cmocka_unit_test(test_same_rows),
        cmocka_unit_test(test_timing), cmocka_unit_test(test_bundled),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
