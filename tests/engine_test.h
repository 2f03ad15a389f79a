// tests/engine_test.h: what the tests of the engine share: opening one with what it logs kept,
// running token ids through it, and comparing logits.
//
// Failures to open or run end the test (cmocka); comparisons return numbers, their bounds belong
// to the tests.
#ifndef STK_TESTS_ENGINE_TEST_H
#define STK_TESTS_ENGINE_TEST_H

#include "engine/engine.h"
#include "engine/session.h"
#include "model/synth.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test_fewer.h"

extern const stk_log test_log; // keeps the last error
extern char test_last_error[1024];

#define TEST_STORIES STK_MODELS "/stories-q4_0.gguf"

// What makes the smallest model at `path`, with random weights and windows of so many tokens.
enum { TEST_TINY_VOCAB = 512 };
stk_synth_options test_tiny(const char *path, uint32_t window);

// For test_engine: the device that computes attention and head; NULL: the CPU does.
extern const char *test_device;

// Sets of kernels this machine has, "scalar" first; "f32" is not among them. NULL past the end.
const char *test_mask_at(size_t index);

// Whatever the options, what it logs is kept and use is not recorded.
stk_engine *test_open(const stk_engine_options *options);
stk_engine *test_engine(const char *path, const char *mask, uint32_t threads);
// Every row of a batch may ask for logits unless options->logit_rows_max says otherwise.
stk_session *test_session(stk_engine *engine, const stk_session_options *options);

// Appends ids[0..count) to a sequence, `chunk` rows per forward (0: all at once), and copies every
// row's logits to out[count][vocab]; NULL: none are computed.
void test_feed(stk_session *session, uint32_t vocab, uint32_t sequence, const int32_t *ids,
               uint32_t count, uint32_t chunk, float *out);

// Logits [count][vocab] of ids run at once through a new engine with `mask`; the caller frees.
float *test_logits(const char *path, const char *mask, const int32_t *ids, uint32_t count,
                   uint32_t vocab);

// The same with every kernel, on memory nodes cut from the cores, a worker each.
float *test_logits_nodes(const char *path, uint32_t nodes, const int32_t *ids, uint32_t count,
                         uint32_t vocab);

float *test_floats(size_t count); // malloc, checked

// ids[0..count) < vocab, the same for the same seed.
void test_random_ids(uint64_t seed, uint32_t vocab, int32_t *ids, uint32_t count);

// Ends the test, naming the first difference, unless the bits are the same.
void test_same_bits(const char *what, const float *got, const float *want, uint32_t rows,
                    uint32_t vocab);

typedef struct test_distance {
    double kl_mean, kl_median; // Kullback-Leibler divergence from `want`, nats
    double agreement;          // share of rows with the same largest logit
    double relative;           // |got - want| / |want|, Euclidean
} test_distance;

test_distance test_compare(const float *got, const float *want, uint32_t rows, uint32_t vocab);

// A folder of its own for temporary files, removed with all in it. For cmocka groups.
int test_make_folder(void **unused);
int test_remove_folder(void **unused);
const char *test_path(const char *name); // in that folder; valid until the fourth next call

#endif
