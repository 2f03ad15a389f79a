#include "engine_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/cpu.h"

char test_last_error[1024];
const char *test_device;

static void keep_error(void *user, stk_log_level level, const char *line)
{
    (void)user;
    if (level == STK_LOG_ERROR)
        snprintf(test_last_error, sizeof test_last_error, "%s", line);
}

const stk_log test_log = {.write = keep_error, .level_max = STK_LOG_ERROR};

stk_synth_options test_tiny(const char *path, uint32_t window)
{
    stk_synth_options options = stk_synth_defaults();
    options.shape = "tiny";
    options.vocab_count = TEST_TINY_VOCAB;
    options.path = path;
    options.window = window;
    return options;
}

const char *test_mask_at(size_t index)
{
    static const char *const all[] = {"scalar", "avx2", "avx512", "neon"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        stk_cpu cpu;
        if (stk_cpu_init(all[i], NULL, &cpu) == STK_OK && index-- == 0)
            return all[i];
    }
    return NULL;
}

stk_engine *test_open(const stk_engine_options *options)
{
    stk_engine_options all = *options;
    stk_engine *engine = NULL;
    all.log = &test_log;
    all.ignores_usage = true;
    if (stk_engine_open(&all, &engine) != STK_OK)
        fail_msg("%s: %s", all.model_path, test_last_error);
    return engine;
}

stk_engine *test_engine(const char *path, const char *mask, uint32_t threads)
{
    const stk_engine_options options = {.model_path = path,
                                        .thread_count = threads,
                                        .cpu_mask = mask,
                                        .device = test_device,
                                        .gpu_layers = 99};
    return test_open(&options);
}

stk_session *test_session(stk_engine *engine, const stk_session_options *options)
{
    stk_session *session = NULL;
    stk_session_options all = *options;
    if (all.batch_rows_max == 0)
        all.batch_rows_max = 256;
    if (all.logit_rows_max == 0)
        all.logit_rows_max = all.batch_rows_max;
    if (stk_session_open(engine, &all, &session) != STK_OK)
        fail_msg("%s", test_last_error);
    return session;
}

float *test_floats(size_t count)
{
    float *floats = malloc(count * sizeof *floats);
    assert_non_null(floats);
    return floats;
}

void test_feed(stk_session *session, uint32_t vocab, uint32_t sequence, const int32_t *ids,
               uint32_t count, uint32_t chunk, float *out)
{
    uint32_t start = stk_session_length(session, sequence);
    stk_row *rows = malloc(count * sizeof *rows);
    assert_non_null(rows);
    for (uint32_t i = 0; i < count; i++)
        rows[i] = (stk_row){sequence, start + i, ids[i], out != NULL};
    for (uint32_t at = 0; at < count;) {
        uint32_t n = chunk != 0 && chunk < count - at ? chunk : count - at;
        if (stk_session_forward(session, rows + at, n) != STK_OK)
            fail_msg("%s", test_last_error);
        for (uint32_t i = 0; i < n && out; i++)
            memcpy(out + (size_t)(at + i) * vocab, stk_session_logits(session, i),
                   vocab * sizeof *out);
        at += n;
    }
    free(rows);
}

// Closes the engine.
static float *logits_of(stk_engine *engine, const int32_t *ids, uint32_t count, uint32_t vocab)
{
    assert_int_equal(stk_engine_model(engine)->vocab_size, vocab);
    const stk_session_options options = {.context_tokens = count, .batch_rows_max = count};
    stk_session *session = test_session(engine, &options);
    float *out = test_floats((size_t)count * vocab);
    test_feed(session, vocab, 0, ids, count, 0, out);
    stk_session_close(&session);
    stk_engine_close(&engine);
    return out;
}

float *test_logits(const char *path, const char *mask, const int32_t *ids, uint32_t count,
                   uint32_t vocab)
{
    return logits_of(test_engine(path, mask, 2), ids, count, vocab);
}

float *test_logits_nodes(const char *path, uint32_t nodes, const int32_t *ids, uint32_t count,
                         uint32_t vocab)
{
    const stk_engine_options options = {
        .model_path = path, .thread_count = nodes, .node_count = nodes};
    stk_engine *engine = test_open(&options);
    assert_int_equal(stk_engine_node_count(engine), nodes);
    return logits_of(engine, ids, count, vocab);
}

void test_random_ids(uint64_t seed, uint32_t vocab, int32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        ids[i] = (int32_t)((seed >> 33) % vocab);
    }
}

void test_same_bits(const char *what, const float *got, const float *want, uint32_t rows,
                    uint32_t vocab)
{
    for (size_t i = 0; i < (size_t)rows * vocab; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s: row %zu logit %zu is %.9g, not %.9g", what, i / vocab, i % vocab,
                     (double)got[i], (double)want[i]);
}

// log of the sum of exp(x[i]), and the index of the largest.
static double log_sum(const float *x, uint32_t n, uint32_t *largest)
{
    *largest = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[*largest])
            *largest = i;
    double sum = 0, top = (double)x[*largest];
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)x[i] - top);
    return top + log(sum);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

test_distance test_compare(const float *got, const float *want, uint32_t rows, uint32_t vocab)
{
    test_distance d = {0, 0, 0, 0};
    double *kl = malloc(rows * sizeof *kl), error = 0, norm = 0;
    assert_non_null(kl);
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = got + (size_t)r * vocab, *y = want + (size_t)r * vocab;
        uint32_t top_x, top_y;
        double sum_x = log_sum(x, vocab, &top_x), sum_y = log_sum(y, vocab, &top_y);
        kl[r] = 0;
        for (uint32_t i = 0; i < vocab; i++) {
            double p = (double)y[i] - sum_y, q = (double)x[i] - sum_x;
            double difference = (double)x[i] - (double)y[i];
            kl[r] += exp(p) * (p - q);
            error += difference * difference;
            norm += (double)y[i] * (double)y[i];
        }
        d.kl_mean += kl[r] / rows;
        d.agreement += top_x == top_y;
    }
    qsort(kl, rows, sizeof *kl, by_value);
    d.kl_median = (kl[(rows - 1) / 2] + kl[rows / 2]) / 2;
    d.agreement /= rows;
    d.relative = sqrt(error / norm);
    free(kl);
    return d;
}

static char folder[64];

int test_make_folder(void **unused)
{
    (void)unused;
    strcpy(folder, "/tmp/stk-engine-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

int test_remove_folder(void **unused)
{
    (void)unused;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

const char *test_path(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}
