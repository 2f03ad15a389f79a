// The synthetic model: the same bytes for the same seed, the shapes of its metadata, and the
// statistics that decide what a token costs.
#include "gguf_make.h"
#include "model/synth.h"

#include <inttypes.h>
#include <math.h>

enum { VOCAB = 512, WIDTH = 256, FFN = 128, EXPERTS = 16, LAYERS = 8 };

static stk_synth_options tiny(const char *path)
{
    stk_synth_options options = stk_synth_defaults();
    options.shape = "tiny";
    options.path = path;
    options.vocab_count = VOCAB;
    options.overwrite = true;
    return options;
}

static void write_ok(const stk_synth_options *options)
{
    if (stk_synth_write(options, &test_log) != STK_OK)
        fail_msg("%s", last_line);
}

static uint64_t file_hash(const char *path)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); // FNV-1a
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    for (int c; (c = getc(file)) != EOF;)
        hash = (hash ^ (uint64_t)c) * UINT64_C(0x100000001b3);
    fclose(file);
    return hash;
}

static void test_deterministic(void **unused)
{
    (void)unused;
    stk_synth_options options = tiny(in_folder("a.gguf"));
    write_ok(&options);
    uint64_t first = file_hash(options.path);
    options.path = in_folder("b.gguf");
    write_ok(&options);
    assert_true(file_hash(options.path) == first);
    // The bytes on every machine; a change here changes every committed measurement.
    if (first != UINT64_C(0x8b78b3b844e40b2e))
        fail_msg("the file's hash is %016" PRIx64, first);
    options.seed = 2;
    write_ok(&options);
    assert_true(file_hash(options.path) != first);
}

typedef struct model {
    stk_gguf *gguf;
    int fd;
} model;

static model open_model(const char *path)
{
    model m = {.fd = open(path, O_RDONLY)};
    assert_true(m.fd >= 0);
    if (stk_gguf_open(path, &test_log, &m.gguf) != STK_OK)
        fail_msg("%s", last_line);
    return m;
}

static void close_model(model *m)
{
    stk_gguf_close(&m->gguf);
    close(m->fd);
}

static const stk_gguf_tensor *find(const model *m, const char *name, const char *type, uint64_t d0,
                                   uint64_t d1, uint64_t d2)
{
    const stk_gguf_tensor *tensor = stk_gguf_tensor_find(m->gguf, name);
    if (!tensor)
        fail_msg("no tensor %s", name);
    assert_string_equal(tensor->type->name, type);
    assert_int_equal(tensor->dims[0], d0);
    assert_int_equal(tensor->dims[1], d1);
    assert_int_equal(tensor->dims[2], d2);
    return tensor;
}

static float *values(const model *m, const stk_gguf_tensor *tensor)
{
    uint64_t count = tensor->dims[0] * tensor->dims[1] * tensor->dims[2];
    uint8_t *raw = malloc(tensor->size_bytes);
    float *out = malloc(count * sizeof *out);
    assert_int_equal(pread(m->fd, raw, tensor->size_bytes, (off_t)tensor->offset_bytes),
                     tensor->size_bytes);
    tensor->type->dequantize(raw, out, count);
    free(raw);
    return out;
}

static void test_keys(void **unused)
{
    (void)unused;
    static const struct {
        const char *key;
        uint64_t value;
    } keys[] = {{"block_count", LAYERS},      {"embedding_length", WIDTH},
                {"expert_count", EXPERTS},    {"expert_used_count", 4},
                {"expert_gating_func", 2},    {"expert_feed_forward_length", FFN},
                {"attention.head_count", 4},  {"attention.head_count_kv", 2},
                {"attention.key_length", 64}, {"attention.sliding_window", 4096},
                {"rope.dimension_count", 64}};
    stk_synth_options options = tiny(in_folder("keys.gguf"));
    write_ok(&options);
    model m = open_model(options.path);
    uint64_t value;
    double number;
    stk_gguf_array array;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "smallthinker.%s", keys[i].key);
        assert_true(stk_gguf_u64(m.gguf, key, &value));
        assert_int_equal(value, keys[i].value);
    }
    assert_true(stk_gguf_f64(m.gguf, "smallthinker.rope.freq_base", &number) && number == 1e6);
    assert_true(stk_gguf_get_array(m.gguf, "tokenizer.ggml.tokens", &array));
    assert_int_equal(array.count, VOCAB);
    assert_true(stk_str_is(array.strings['A'], "A"));
    assert_true(stk_str_is(array.strings[' '], "\xc4\xa0"));  // U+0120
    assert_true(stk_str_is(array.strings[0xff], "\xc3\xbf")); // itself
    assert_true(stk_str_is(array.strings[0xad], "\xc5\x83")); // the last of those moved, U+0143
    assert_true(stk_str_is(array.strings[256], "tok256"));
    assert_true(stk_str_is(array.strings[VOCAB - 3], "<|endoftext|>"));
    assert_true(stk_gguf_u64(m.gguf, "tokenizer.ggml.eos_token_id", &value));
    assert_true(stk_str_is(array.strings[value], "<|im_end|>"));
    assert_true(stk_gguf_get_array(m.gguf, "tokenizer.ggml.token_type", &array));
    assert_int_equal(stk_gguf_array_i64(&array, VOCAB - 4), 1);
    assert_int_equal(stk_gguf_array_i64(&array, VOCAB - 3), 3);
    close_model(&m);
}

static void test_options(void **unused)
{
    (void)unused;
    const stk_str words[] = {stk_str_of("x"), stk_str_of("yz")};
    stk_synth_options options = tiny(in_folder("options.gguf"));
    options.gating = STK_SYNTH_MISSING;
    options.window = 0;
    options.transpose_down = true;
    options.tokens = words;
    options.token_count = 2;
    options.merges = words;
    options.merge_count = 1;
    options.vocab_count = 260;
    write_ok(&options);
    model m = open_model(options.path);
    uint64_t value;
    stk_gguf_array array;
    assert_false(stk_gguf_has(m.gguf, "smallthinker.expert_gating_func"));
    assert_false(stk_gguf_has(m.gguf, "smallthinker.attention.sliding_window"));
    const stk_gguf_tensor *down = find(&m, "blk.3.ffn_down_exps.weight", "Q4_0", WIDTH, FFN,
                                       EXPERTS);
    float *w = values(&m, down);
    for (size_t row = 0; row < FFN * EXPERTS; row++)
        assert_true(w[row * WIDTH] == 0);
    free(w);
    assert_true(stk_gguf_get_array(m.gguf, "tokenizer.ggml.tokens", &array));
    assert_true(stk_str_is(array.strings[1], "yz"));
    assert_true(stk_str_is(array.strings[4], "<|im_end|>"));
    assert_true(stk_str_is(array.strings[259], "[PAD259]"));
    close_model(&m);
    options.gating = STK_SYNTH_SOFTMAX;
    options.window = 7;
    write_ok(&options);
    m = open_model(options.path);
    assert_true(stk_gguf_u64(m.gguf, "smallthinker.expert_gating_func", &value) && value == 1);
    assert_true(stk_gguf_u64(m.gguf, "smallthinker.attention.sliding_window", &value));
    assert_int_equal(value, 7);
    close_model(&m);
}

// Mean and standard deviation of columns 1.. of all rows but those that are zero.
static void statistics(const float *w, uint64_t columns, uint64_t rows, double *mean, double *std)
{
    double sum = 0, squares = 0, count = 0;
    for (uint64_t i = 0; i < rows; i++) {
        bool zero = true;
        for (uint64_t j = 1; j < columns; j++)
            zero = zero && w[i * columns + j] == 0;
        for (uint64_t j = 1; j < columns && !zero; j++, count++) {
            sum += (double)w[i * columns + j];
            squares += (double)w[i * columns + j] * (double)w[i * columns + j];
        }
    }
    *mean = sum / count;
    *std = sqrt(squares / count - *mean * *mean);
}

static void check_statistics(const model *m, const stk_gguf_tensor *tensor, double expected)
{
    double mean, std, count = (double)(tensor->dims[0] * tensor->dims[1] * tensor->dims[2]);
    float *w = values(m, tensor);
    statistics(w, tensor->dims[0], tensor->dims[1] * tensor->dims[2], &mean, &std);
    free(w);
    if (fabs(mean) > 6 * expected / sqrt(count) ||
        fabs(std / expected - 1) > 0.02 + 3 / sqrt(count))
        fail_msg("%.*s: mean %g, std %g, expected 0 and %g", (int)tensor->name.len_bytes,
                 tensor->name.data, mean, std, expected);
}

static void test_weights(void **unused)
{
    (void)unused;
    stk_synth_options options = tiny(in_folder("weights.gguf"));
    write_ok(&options);
    model m = open_model(options.path);
    double in_std = 1 / sqrt(WIDTH), residual = 1 / sqrt(2.0 * LAYERS), mean, std;
    const stk_gguf_tensor *t = find(&m, "token_embd.weight", "Q4_0", WIDTH, VOCAB, 1);
    check_statistics(&m, t, 1);
    float *w = values(&m, t);
    for (size_t i = 0; i < VOCAB; i++)
        assert_true(fabs((double)w[i * WIDTH] - 7 / 4.2) < 1e-3);
    free(w);
    check_statistics(&m, find(&m, "blk.0.attn_q.weight", "Q4_0", WIDTH, 256, 1), in_std);
    check_statistics(&m, find(&m, "blk.7.attn_k.weight", "Q4_0", WIDTH, 128, 1), in_std);
    check_statistics(&m, find(&m, "blk.1.ffn_up_exps.weight", "Q4_0", WIDTH, FFN, EXPERTS), in_std);
    t = find(&m, "blk.1.ffn_gate_exps.weight", "Q4_0", WIDTH, FFN, EXPERTS);
    check_statistics(&m, t, in_std);
    w = values(&m, t);
    for (size_t i = 0; i < FFN * EXPERTS; i++)
        assert_true(fabs((double)w[i * WIDTH] + 8 * in_std / 4.2) < 1e-3);
    free(w);
    check_statistics(&m, find(&m, "blk.2.attn_output.weight", "Q4_0", 256, WIDTH, 1),
                     residual / sqrt(256));
    t = find(&m, "blk.2.ffn_down_exps.weight", "Q4_0", FFN, WIDTH, EXPERTS);
    check_statistics(&m, t, 4 * residual / sqrt(FFN));
    w = values(&m, t);
    for (size_t expert = 0; expert < EXPERTS; expert++) {
        for (size_t row = 0; row < WIDTH; row++) {
            bool zero = true;
            for (size_t i = 0; i < FFN; i++)
                zero = zero && w[(expert * WIDTH + row) * FFN + i] == 0;
            assert_true(zero == (row == 0));
        }
    }
    free(w);
    t = find(&m, "blk.5.ffn_gate_inp.weight", "F32", WIDTH, EXPERTS, 1);
    check_statistics(&m, t, in_std);
    double squares = 0; // the bias of all layers' experts: 128 draws
    for (int layer = 0; layer < LAYERS; layer++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.ffn_gate_inp.weight", layer);
        w = values(&m, find(&m, name, "F32", WIDTH, EXPERTS, 1));
        for (size_t i = 0; i < EXPERTS; i++)
            squares += (double)w[i * WIDTH] * (double)w[i * WIDTH];
        free(w);
    }
    assert_true(fabs(sqrt(squares / (LAYERS * EXPERTS)) / (1.2 * 4.2 / 7) - 1) < 0.25);
    w = values(&m, find(&m, "output_norm.weight", "F32", WIDTH, 1, 1));
    statistics(w, WIDTH, 1, &mean, &std);
    assert_true(fabs(mean) < 0.3 && fabs(std - 1) < 0.1 && fabsf(w[0]) == 1);
    free(w);
    close_model(&m);
}

static void test_norms(void **unused)
{
    (void)unused;
    stk_synth_options options = tiny(in_folder("norms.gguf"));
    write_ok(&options);
    model m = open_model(options.path);
    for (int layer = 0; layer < LAYERS; layer++) {
        // What channel 0 adds to a gate, h0 * norm0 * |column 0|, must be the shift.
        double shift = layer == 0 ? 2 : 0.45, h0 = 7 / 4.2;
        char name[64];
        snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", layer);
        float *w = values(&m, find(&m, name, "F32", WIDTH, 1, 1));
        double bias = (double)w[0] * h0 * (8 / 4.2) / sqrt(WIDTH);
        assert_true(fabs(bias / shift - 1) < 1e-5);
        assert_true(w[1] == 1 && w[WIDTH - 1] == 1);
        free(w);
        snprintf(name, sizeof name, "blk.%d.attn_norm.weight", layer);
        w = values(&m, find(&m, name, "F32", WIDTH, 1, 1));
        assert_true(w[0] == 0 && w[1] == 1 && w[WIDTH - 1] == 1);
        free(w);
    }
    close_model(&m);
}

static void refused(stk_synth_options options, stk_status expected, const char *part)
{
    last_line[0] = 0;
    options.path = in_folder("refused.gguf");
    stk_status status = stk_synth_write(&options, &test_log);
    if (status != expected || !strstr(last_line, part))
        fail_msg("%s, '%s' lacks '%s'", stk_status_name(status), last_line, part);
    assert_int_not_equal(access(options.path, F_OK), 0);
}

static void test_refusals(void **unused)
{
    (void)unused;
    atomic_int stop = 1;
    const stk_str words[300] = {{"x", 1}};
    stk_synth_options options = tiny("");
    options.shape = "7b";
    refused(options, STK_INVALID, "'7b' is not a shape");
    options = tiny("");
    options.vocab_count = 258;
    refused(options, STK_INVALID, "too small");
    options.vocab_count = UINT32_MAX;
    refused(options, STK_INVALID, "vocabulary");
    options.vocab_count = 302;
    options.tokens = options.merges = words;
    options.token_count = 300;
    refused(options, STK_INVALID, "300 ordinary");
    options = tiny("");
    options.skew = NAN;
    refused(options, STK_INVALID, "finite");
    options = tiny("");
    options.window = -2;
    refused(options, STK_INVALID, "window");
    options = tiny("");
    options.stop = &stop;
    refused(options, STK_CANCELLED, "");
    assert_null(stk_synth_shape_name(5));
    assert_string_equal(stk_synth_shape_name(0), "4b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deterministic), cmocka_unit_test(test_keys),
        cmocka_unit_test(test_options),       cmocka_unit_test(test_weights),
        cmocka_unit_test(test_norms),         cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
