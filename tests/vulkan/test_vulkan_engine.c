// Where an expert is computed never changes a token: greedy text of the bundled model, and its
// logits to the bit, with none, some and all experts on a device, and when the device is lost on
// the way.
#include "tests/vulkan/vulkan_test.h"

#include <unistd.h>

#include "engine/engine_impl.h"
#include "engine/experts_gpu_impl.h"
#include "engine/metrics.h"
#include "store/usage_file.h"

enum { TOKENS = 80, MOVES_TOKENS = 40, PROMPT = 70, BATCH = 40 };

typedef struct outcome {
    int32_t tokens[TOKENS];
    uint32_t count;
    float *logits; // [count][vocab]
    uint32_t vocab;
    uint32_t gpu_experts, gpu_experts_after, slots;
    uint64_t moves, taken;
    bool in_place, in_pool, is_limited;
} outcome;

// How a run differs from the CPU's.
typedef struct setting {
    const char *device;
    uint32_t percent;
    bool copies, churns;
    uint32_t staging, nodes; // nodes 0: the machine's
    uint64_t memory_bytes;
    bool is_pressed;   // the system leaves the store no more slots than it cannot do without
    uint32_t loses_at; // the device is lost before this token; 0: never
    stk_vk_faults faults;
    uint64_t *free_bytes; // what the driver says is free: halved before every token
} setting;

static char last_line[256];

static void keep_line(void *user, stk_log_level level, const char *line)
{
    (void)user, (void)level;
    snprintf(last_line, sizeof last_line, "%s", line);
}

static const stk_log keeps_last = {.write = keep_line, .level_max = STK_LOG_ERROR};

static int32_t best_of(const float *logits, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    return (int32_t)best;
}

static void draw(stk_engine *engine, stk_session *session, const float *logits, const setting *set,
                 outcome *o)
{
    for (uint32_t i = 0; i < o->count; i++) {
        o->tokens[i] = best_of(logits, o->vocab);
        stk_row row = {0, PROMPT + i, o->tokens[i], true};
        if (set->loses_at != 0 && i == set->loses_at)
            stk_gpu_device_inject_loss(engine->device);
        if (set->free_bytes)
            *set->free_bytes /= 2;
        assert_int_equal(stk_session_forward(session, &row, 1), STK_OK);
        logits = stk_session_logits(session, 0);
        memcpy(o->logits + (size_t)i * o->vocab, logits, o->vocab * sizeof *logits);
    }
}

// A limit counts what the program holds already, which sanitizers make restless: where it has
// become too small, a little more is tried.
static stk_engine *open_engine(stk_engine_options *options)
{
    stk_engine *engine = NULL;
    stk_status status = stk_engine_open(options, &engine);
    for (int i = 0; i < 40 && options->memory_bytes && status == STK_NO_MEMORY; i++) {
        options->memory_bytes += 2u << 20;
        status = stk_engine_open(options, &engine);
    }
    assert_int_equal(status, STK_OK);
    return engine;
}

// Between forward passes nobody holds an expert but the moves: without them no more stay than the
// fewest slots have room for.
static void check_no_pins(stk_engine *engine)
{
    stk_expert_store *store = engine->store;
    uint32_t kept = 0;
    stk_expert expert;
    if (stk_expert_store_is_resident(store))
        return;
    if (engine->gpu)
        stk_gpu_drop_moves(engine->gpu);
    uint32_t slots = stk_expert_store_set_slots(store, 0);
    for (uint32_t layer = 0; layer < engine->model.layer_count; layer++)
        for (uint32_t e = 0; e < engine->model.expert_count; e++)
            kept += stk_expert_store_poll(store, layer, e, &expert) == STK_OK;
    assert_true(kept <= slots);
}

// Reads a prompt in two uneven batches, then draws `count` tokens.
static outcome generate(const setting *set, uint32_t count)
{
    static stk_row rows[PROMPT];
    stk_session *session = NULL;
    outcome o = {.count = count};
    stk_engine_options options = {.model_path = STK_MODELS "/stories-q4_0.gguf",
                                  .log = &test_log,
                                  .thread_count = set->nodes ? set->nodes : 1,
                                  .node_count = set->nodes,
                                  .ignores_usage = true,
                                  .device = set->device,
                                  .gpu_experts_percent = set->percent,
                                  .gpu_copies = set->copies,
                                  .gpu_churns = set->churns,
                                  .gpu_staging = set->staging,
                                  .memory_bytes = set->memory_bytes,
                                  .gpu_faults = &set->faults};
    stk_session_options session_options = {.context_tokens = 512, .batch_rows_max = BATCH};
    options.planned_session = &session_options;
    stk_engine *engine = open_engine(&options);
    assert_int_equal(stk_session_open(engine, &session_options, &session), STK_OK);
    if (set->is_pressed)
        engine->pressure.slots = engine->pressure.slots_max = stk_expert_store_set_slots(
            engine->store, 0);
    o.vocab = stk_engine_model(engine)->vocab_size;
    o.gpu_experts = stk_engine_gpu_experts(engine);
    o.slots = stk_engine_memory(engine)->slots;
    o.in_place = engine->gpu && engine->gpu->in_place;
    o.logits = test_alloc((size_t)count * o.vocab * sizeof *o.logits);
    for (uint32_t i = 0; i < PROMPT; i++)
        rows[i] = (stk_row){0, i, (int32_t)(i * 37 % o.vocab), i == PROMPT - 1};
    assert_int_equal(stk_session_forward(session, rows, BATCH), STK_OK);
    assert_int_equal(stk_session_forward(session, rows + BATCH, PROMPT - BATCH), STK_OK);
    draw(engine, session, stk_session_logits(session, PROMPT - BATCH - 1), set, &o);
    o.gpu_experts_after = stk_engine_gpu_experts(engine);
    o.moves = stk_engine_gpu_moves(engine);
    o.in_pool = engine->gpu && engine->gpu->pool;
    o.is_limited = !stk_expert_store_is_resident(engine->store);
    o.taken = stk_gpu_taken_count(engine->gpu);
    check_no_pins(engine);
    stk_session_close(&session);
    stk_engine_close(&engine);
    return o;
}

static void expect_same(const outcome *got, const outcome *want)
{
    assert_memory_equal(got->tokens, want->tokens, got->count * sizeof *got->tokens);
    assert_memory_equal(got->logits, want->logits,
                        (size_t)got->count * got->vocab * sizeof *got->logits);
}

// The CPU's answer, computed once.
static const outcome *cpu_outcome(void)
{
    static outcome cpu;
    if (!cpu.logits)
        cpu = generate(&(setting){.device = "cpu"}, TOKENS);
    return &cpu;
}

// Runs, compares with the CPU, frees the logits.
static outcome expect_cpu(const setting *set, uint32_t count)
{
    outcome got = generate(set, count);
    expect_same(&got, cpu_outcome());
    free(got.logits);
    return got;
}

static void test_share_changes_nothing(void **state)
{
    (void)state;
    static const uint32_t percents[] = {0, 30, 100};
    assert_int_equal(cpu_outcome()->gpu_experts, 0);
    for (int i = 0; i < 3; i++) {
        outcome gpu = expect_cpu(
            &(setting){.device = "vulkan", .percent = percents[i], .copies = i == 1}, TOKENS);
        assert_true((gpu.gpu_experts > 0) == (percents[i] > 0));
    }
    outcome lost = expect_cpu(&(setting){.device = "vulkan", .percent = 50, .loses_at = 40}, 50);
    assert_true(lost.gpu_experts > 0);
    assert_int_equal(lost.gpu_experts_after, 0);
}

// Experts come and go with every token, through memory the CPU writes and through a copy queue.
static void test_moves_change_nothing(void **state)
{
    (void)state;
    for (int unmapped = 0; unmapped < 2; unmapped++) {
        outcome gpu = expect_cpu(&(setting){.device = "vulkan",
                                            .percent = 30,
                                            .copies = true,
                                            .churns = true,
                                            .faults = {.unmapped = unmapped}},
                                 MOVES_TOKENS);
        assert_true(gpu.moves > MOVES_TOKENS / 2);
        assert_int_equal(gpu.gpu_experts_after, gpu.gpu_experts);
    }
}

// What the router chooses is copied while attention computes, also while experts come and go.
static void test_copies_when_chosen(void **state)
{
    (void)state;
    for (int unmapped = 0; unmapped < 2; unmapped++) {
        outcome gpu = expect_cpu(&(setting){.device = "vulkan",
                                            .percent = 30,
                                            .copies = true,
                                            .churns = unmapped,
                                            .staging = unmapped ? 2 : 3,
                                            .faults = {.unmapped = unmapped}},
                                 MOVES_TOKENS);
        assert_true(gpu.taken > MOVES_TOKENS);
    }
    uint64_t left = UINT64_C(64) << 20;
    expect_cpu(&(setting){.device = "vulkan", // their slots go too
                          .percent = 60,
                          .copies = true,
                          .staging = 3,
                          .free_bytes = &left,
                          .faults = {.free_bytes = &left}},
               20);
    expect_cpu(
        &(setting){.device = "vulkan", .percent = 30, .copies = true, .staging = 3, .loses_at = 3},
        8);
}

// Memory nodes keep their experts in slots of their own; a device gets copies all the same.
static void test_nodes(void **state)
{
    (void)state;
    outcome gpu = expect_cpu(&(setting){.device = "vulkan",
                                        .percent = 40,
                                        .copies = true,
                                        .churns = true,
                                        .staging = 2,
                                        .nodes = 2,
                                        .faults = {.unmapped = true}},
                             12);
    assert_true(gpu.gpu_experts > 0 && gpu.taken > 0);
    expect_cpu(&(setting){.device = "vulkan", .percent = 100, .nodes = 2}, 6);
}

// Bytes for a part of the experts: the least that is said to be needed, and a little more.
static uint64_t little_memory(const stk_vk_faults *faults)
{
    const stk_engine_options least = {.model_path = STK_MODELS "/stories-q4_0.gguf",
                                      .log = &keeps_last,
                                      .ignores_usage = true,
                                      .device = "vulkan",
                                      .gpu_experts_percent = 100,
                                      .memory_bytes = 1 << 20,
                                      .gpu_faults = faults};
    stk_engine *engine = NULL;
    assert_int_equal(stk_engine_open(&least, &engine), STK_NO_MEMORY);
    const char *named = strstr(last_line, "--memory ");
    assert_non_null(named);
    return (strtoull(named + strlen("--memory "), NULL, 10) + 8) << 20;
}

// Memory is limited and the device has its own: what it gets is read by the store, held until it is
// copied, and given back.
static void test_limited_store(void **state)
{
    (void)state;
    setting set = {.device = "vulkan",
                   .percent = 30,
                   .churns = true,
                   .staging = 2,
                   .faults = {.apart = true, .unmapped = true}};
    set.memory_bytes = little_memory(&set.faults);
    outcome gpu = expect_cpu(&set, MOVES_TOKENS);
    assert_true(gpu.is_limited && !gpu.in_pool);
    assert_true(gpu.gpu_experts > 0 && gpu.moves > 0 && gpu.taken > 0);
    set.is_pressed = true; // a layer needs all there are: nothing is held for a move
    outcome pressed = expect_cpu(&set, 8);
    assert_true(pressed.moves == 0 || !pressed.is_limited); // a sanitizer's memory may have shrunk
    set.is_pressed = false;
    set.loses_at = 5;
    assert_int_equal(expect_cpu(&set, 8).gpu_experts_after, 0);
}

// Memory is limited and the device shares it: it reads the slots of the store in place, which hold
// other experts from token to token.
static void test_shared_slots(void **state)
{
    (void)state;
    uint64_t bytes = little_memory(NULL);
    for (uint32_t percent = 40; percent <= 100; percent += 60) {
        outcome gpu = expect_cpu(&(setting){.device = "vulkan",
                                            .percent = percent,
                                            .memory_bytes = bytes,
                                            .loses_at = percent == 40 ? 15 : 0},
                                 MOVES_TOKENS);
        if (!gpu.in_pool) // a device of its own memory
            break;
        // A sanitizer's memory grows between two openings, and leaves few slots at times.
        assert_true(gpu.taken > (gpu.slots > 32 ? MOVES_TOKENS / 2 : 0));
    }
}

// Memory ends at the n-th allocation: fewer experts or none are on the device, and nobody sees it.
static void test_memory_ends(void **state)
{
    (void)state;
    uint32_t all = 0;
    for (uint32_t n = 0; n < 5; n++) {
        outcome gpu = expect_cpu(&(setting){.device = "vulkan",
                                            .percent = 100,
                                            .copies = true,
                                            .faults = {.allocation = n, .unmapped = n != 0}},
                                 2);
        if (n == 0)
            all = gpu.gpu_experts;
        else if (n == 1)
            assert_int_equal(gpu.gpu_experts, 0); // not even a job
        assert_true(gpu.gpu_experts <= all);
    }
    assert_true(all > 0);
}

// The device is lost at the n-th submission: while it is filled, tested, or used.
static void test_lost_at_submission(void **state)
{
    (void)state;
    static const uint32_t at[] = {1, 2, 19, 36, 50, 70};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        outcome gpu = expect_cpu(&(setting){.device = "vulkan",
                                            .percent = 50,
                                            .copies = true,
                                            .churns = true,
                                            .faults = {.submission = at[i], .unmapped = i % 2}},
                                 8);
        assert_int_equal(gpu.gpu_experts_after, 0);
    }
}

// Others take the device's memory: experts give way, token by token.
static void test_budget_falls(void **state)
{
    (void)state;
    uint64_t left = UINT64_C(64) << 20;
    outcome gpu = expect_cpu(&(setting){.device = "vulkan",
                                        .percent = 100,
                                        .copies = true,
                                        .churns = true,
                                        .free_bytes = &left,
                                        .faults = {.free_bytes = &left}},
                             30);
    assert_true(gpu.gpu_experts_after < gpu.gpu_experts);
}

// What earlier runs used is what the device begins with, and what this run used is kept.
static void test_usage_chooses(void **state)
{
    (void)state;
    char path[] = "/tmp/stoker_usage_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    stk_engine *engine = NULL;
    stk_session *session = NULL;
    stk_engine_options options = {.model_path = STK_MODELS "/stories-q4_0.gguf",
                                  .log = &test_log,
                                  .thread_count = 1,
                                  .usage_path = path,
                                  .device = "vulkan",
                                  .gpu_experts_percent = 25};
    float rates[64 * 256];
    assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
    uint32_t layers = stk_engine_model(engine)->layer_count;
    uint32_t experts = stk_engine_model(engine)->expert_count;
    assert_true((size_t)layers * experts <= sizeof rates / sizeof *rates);
    stk_session_options session_options = {.context_tokens = 64};
    assert_int_equal(stk_session_open(engine, &session_options, &session), STK_OK);
    stk_row row = {0, 0, 5, true};
    assert_int_equal(stk_session_forward(session, &row, 1), STK_OK);
    stk_session_close(&session);
    stk_engine_close(&engine);
    assert_int_equal(stk_usage_read(path, layers, experts, NULL, rates), 1);
    float used = 0;
    for (uint32_t i = 0; i < layers * experts; i++)
        used += rates[i] > 0 ? 1.0f : 0.0f;
    assert_true(used > 0);
    for (uint32_t i = 0; i < layers * experts; i++) // the last ones, and most of all the very last
        rates[i] = (float)(i % experts) / 1024;
    stk_usage_write(path, layers, experts, NULL, rates, 100);
    assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
    for (uint32_t layer = 0; layer < layers; layer++)
        for (uint32_t e = 0; e < experts; e++)
            assert_int_equal(stk_gpu_has(engine->gpu, layer, e), e >= experts - experts / 4);
    stk_engine_close(&engine);
    unlink(path);
}

// ---- what runs at the same time ----

static bool overlap(uint64_t a_begin, uint64_t a_end, uint64_t b_begin, uint64_t b_end)
{
    return a_begin < b_end && b_begin < a_end;
}

static const stk_gpu_span *find_span(const stk_gpu_span *spans, uint32_t count,
                                     stk_gpu_span_kind kind, uint32_t layer)
{
    for (uint32_t i = 0; i < count; i++)
        if (spans[i].kind == kind && spans[i].layer == layer)
            return &spans[i];
    return NULL;
}

// By the order of events in the trace: in some layer a job of the GPU was under way while the CPU's
// only worker, between handing it over and waiting for it, computed experts; and an upload was
// under way while it computed attention.
static void test_overlap(void **state)
{
    (void)state;
    enum { TOKENS_TRACED = 12, SPANS = 4096 };
    static stk_gpu_span gpu[SPANS];
    static stk_span cpu[SPANS];
    stk_engine *engine = NULL;
    stk_session *session = NULL;
    stk_engine_options options = {.model_path = STK_MODELS "/stories-q4_0.gguf",
                                  .thread_count = 1,
                                  .ignores_usage = true,
                                  .device = "vulkan",
                                  .gpu_experts_percent = 50,
                                  .gpu_copies = true,
                                  .gpu_churns = true,
                                  .gpu_staging = 2,
                                  .gpu_faults = &(stk_vk_faults){.unmapped = true}};
    stk_session_options session_options = {.context_tokens = 64, .trace_forwards = 1};
    assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
    assert_int_equal(stk_session_open(engine, &session_options, &session), STK_OK);
    uint32_t layers = stk_engine_model(engine)->layer_count;
    bool experts = false, attention = false, chosen = false;
    stk_session_set_timing(session, true);
    stk_span before[STK_PHASE_COUNT * 65];
    uint32_t before_count = 0;
    for (uint32_t t = 0; t < TOKENS_TRACED; t++) {
        stk_row row = {0, t, (int32_t)(t * 37 + 5), true};
        assert_int_equal(stk_session_forward(session, &row, 1), STK_OK);
        uint32_t gpu_count = stk_session_gpu_spans(session, gpu, SPANS);
        uint32_t cpu_count = stk_session_spans(session, 0, cpu, SPANS);
        for (uint32_t layer = 0; layer < layers; layer++) {
            const stk_gpu_span *job = find_span(gpu, gpu_count, STK_GPU_SPAN_JOB, layer);
            const stk_gpu_span *submit = find_span(gpu, gpu_count, STK_GPU_SPAN_SUBMIT, layer);
            const stk_gpu_span *wait = find_span(gpu, gpu_count, STK_GPU_SPAN_WAIT, layer);
            if (job && submit && wait && wait->begin_ns > submit->end_ns)
                experts |= overlap(job->begin_ns, job->end_ns, submit->end_ns, wait->begin_ns);
        }
        // an upload ends in the forward after the one it began in
        for (uint32_t i = 0; i < gpu_count; i++)
            for (uint32_t j = 0; gpu[i].kind == STK_GPU_SPAN_UPLOAD && j < before_count; j++)
                attention |= before[j].phase == STK_PHASE_ATTEND &&
                             overlap(gpu[i].begin_ns, gpu[i].end_ns, before[j].begin_ns,
                                     before[j].end_ns);
        // what was chosen is copied from before its layer's attention until after it
        for (uint32_t i = 0; i < gpu_count; i++)
            for (uint32_t j = 0; gpu[i].kind == STK_GPU_SPAN_UPLOAD && j < cpu_count; j++)
                chosen |= cpu[j].phase == STK_PHASE_ATTEND && cpu[j].layer == gpu[i].layer &&
                          gpu[i].begin_ns > cpu[0].begin_ns && gpu[i].begin_ns < cpu[j].end_ns &&
                          gpu[i].end_ns > cpu[j].end_ns;
        before_count = cpu_count;
        assert_true(cpu_count <= sizeof before / sizeof *before);
        memcpy(before, cpu, cpu_count * sizeof *cpu);
    }
    assert_true(experts);
    assert_true(attention);
    assert_true(chosen);
    stk_session_close(&session);
    stk_engine_close(&engine);
}

// Without host memory in place experts are copied; without addresses there is no device.
static void test_missing_features(void **state)
{
    (void)state;
    setting set = {.device = "vulkan", .percent = 30, .faults = {.no_import = true}};
    outcome gpu = expect_cpu(&set, 4);
    assert_true(gpu.gpu_experts > 0);
    assert_false(gpu.in_place);
    stk_vk *device = NULL;
    assert_int_equal(stk_vk_open(&(stk_vk_options){0}, &device), STK_OK);
    const stk_vk_device_info *info = stk_vk_info(device);
    bool could = info->unified && info->import_align_bytes != 0 && info->import_align_bytes <= 4096;
    stk_vk_close(&device);
    set.faults.no_import = false;
    assert_int_equal(expect_cpu(&set, 4).in_place, could);

    stk_engine *engine = NULL;
    const stk_vk_faults faults = {.no_addresses = true};
    stk_engine_options options = {.model_path = STK_MODELS "/stories-q4_0.gguf",
                                  .log = &test_log,
                                  .ignores_usage = true,
                                  .thread_count = 1,
                                  .device = "vulkan",
                                  .gpu_faults = &faults};
    assert_int_equal(stk_engine_open(&options, &engine), STK_INVALID);
    assert_null(engine);
    assert_int_equal(stk_vk_open(&(stk_vk_options){.faults = faults}, &device), STK_INVALID);
    assert_null(device);
}

static void test_wrong_devices(void **state)
{
    (void)state;
    static const char *const wrong[] = {"gpu", "vulkan:", "vulkan:no such device", "vulkan:99"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        stk_engine *engine = NULL;
        stk_engine_options options = {.model_path = STK_MODELS "/stories-q4_0.gguf",
                                      .ignores_usage = true,
                                      .thread_count = 1,
                                      .device = wrong[i]};
        assert_int_equal(stk_engine_open(&options, &engine), STK_INVALID);
        assert_null(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_share_changes_nothing),
                                       cmocka_unit_test(test_moves_change_nothing),
                                       cmocka_unit_test(test_copies_when_chosen),
                                       cmocka_unit_test(test_nodes),
                                       cmocka_unit_test(test_limited_store),
                                       cmocka_unit_test(test_shared_slots),
                                       cmocka_unit_test(test_memory_ends),
                                       cmocka_unit_test(test_lost_at_submission),
                                       cmocka_unit_test(test_budget_falls),
                                       cmocka_unit_test(test_usage_chooses),
                                       cmocka_unit_test(test_overlap),
                                       cmocka_unit_test(test_missing_features),
                                       cmocka_unit_test(test_wrong_devices)};
    stk_vk_device_info infos[STK_VK_DEVICES_MAX];
    uint32_t count = 0;
    if (stk_vk_devices(&test_log, infos, &count) != STK_OK)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
