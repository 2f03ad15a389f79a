// Messages between ranks survive the way, and whatever else arrives is refused.
#include "cluster/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

enum { WIDTH = 96, ROWS = 5 };

static void *buffer(size_t bytes)
{
    void *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(data);
    return data;
}

static void test_forward_survives(void **state)
{
    (void)state;
    stk_message_draw draw = {.temperature = 0.5f, .window_count = 3, .window = {1, 2, 3}};
    for (uint32_t hop = 0; hop < STK_HOP_COUNT; hop++)
        for (uint32_t n = 1; n <= ROWS; n++) {
            bool draws = n % 2 == 1;
            stk_message_row rows[ROWS];
            float hidden[ROWS * WIDTH];
            for (uint32_t i = 0; i < n; i++)
                rows[i] = (stk_message_row){i, 10 + i, (int32_t)(7 * i), i & 1};
            for (uint32_t i = 0; i < n * WIDTH; i++)
                hidden[i] = (float)i * 0.37f;
            const stk_message sent = {.type = STK_MESSAGE_FORWARD,
                                      .u.forward = {.row_count = n,
                                                    .width = WIDTH,
                                                    .hop = hop,
                                                    .computed_ns = 99,
                                                    .rows = rows,
                                                    .draw = draws ? &draw : NULL,
                                                    .hidden = hidden}};
            size_t most = stk_message_bytes_max(n, WIDTH);
            void *data = buffer(most);
            size_t size = stk_message_encode(&sent, data, most);
            assert_true(size <= most);
            stk_message got;
            assert_int_equal(stk_message_decode(data, size, n, &got), STK_OK);
            assert_int_equal(got.type, STK_MESSAGE_FORWARD);
            assert_int_equal(got.u.forward.row_count, n);
            assert_int_equal(got.u.forward.computed_ns, 99);
            assert_int_equal(got.u.forward.hop, hop);
            assert_memory_equal(got.u.forward.rows, rows, n * sizeof *rows);
            assert_int_equal((uintptr_t)got.u.forward.hidden % 64, 0);
            assert_memory_equal(got.u.forward.hidden, hidden,
                                stk_message_hidden_bytes(&got.u.forward));
            assert_int_equal(got.u.forward.draw != NULL, draws);
            if (draws)
                assert_memory_equal(got.u.forward.draw, &draw, sizeof draw);
            // One row more than there is room for, a byte more or less than it is.
            assert_int_equal(stk_message_decode(data, size, n - 1, &got), STK_FORMAT);
            assert_int_equal(stk_message_decode(data, size - 1, n, &got), STK_FORMAT);
            free(data);
        }
}

static void test_small_ones_survive(void **state)
{
    (void)state;
    stk_message messages[] = {
        {.type = STK_MESSAGE_OPEN, .u.open = {4096, 2, 256, 16, 1}},
        {.type = STK_MESSAGE_FAILED, .u.failed = {STK_IO, 2}},
        {.type = STK_MESSAGE_TRUNCATE, .u.truncate = {1, 77}},
        {.type = STK_MESSAGE_REPLY,
         .u.reply = {.to = STK_MESSAGE_STATS,
                     .status = STK_IO,
                     .rank = 3,
                     .logit_rows = 2,
                     .computed_ns = 5,
                     .stats = {.hop_bytes = 123, .experts_hit = 9}}},
        {.type = STK_MESSAGE_CLOSE},
        {.type = STK_MESSAGE_STATS},
        {.type = STK_MESSAGE_QUIT},
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        size_t most = stk_message_bytes_max(1, 32);
        void *data = buffer(most);
        size_t size = stk_message_encode(&messages[i], data, most);
        stk_message got;
        assert_int_equal(stk_message_decode(data, size, 0, &got), STK_OK);
        assert_memory_equal(&got, &messages[i], sizeof got);
        assert_int_equal(stk_message_decode(data, size - 1, 0, &got), STK_FORMAT);
        free(data);
    }
}

// Random damage: refused, or read within its bytes (which the sanitizers see).
static void test_damage(void **state)
{
    (void)state;
    stk_random random = stk_random_seeded(1);
    stk_message_row rows[ROWS] = {{0}};
    const stk_message_draw draw = {.window_count = 9};
    float hidden[ROWS * WIDTH] = {0};
    const stk_message sent = {
        .type = STK_MESSAGE_FORWARD,
        .u.forward = {
            .row_count = ROWS, .width = WIDTH, .rows = rows, .draw = &draw, .hidden = hidden}};
    size_t most = stk_message_bytes_max(ROWS, WIDTH);
    uint8_t *whole = buffer(most);
    size_t size = stk_message_encode(&sent, whole, most);
    uint32_t refused = 0, accepted = 0;
    for (int i = 0; i < 20000; i++) {
        uint8_t *data = buffer(size);
        memcpy(data, whole, size);
        for (int k = 0; k < 2; k++)
            data[stk_random_u64(&random) % 64] = (uint8_t)stk_random_u64(&random);
        size_t length = i % 4 == 0 ? stk_random_u64(&random) % (size + 1) : size;
        stk_message got;
        if (stk_message_decode(data, length, ROWS, &got) != STK_OK) {
            refused++;
        } else if (got.type == STK_MESSAGE_FORWARD) {
            const stk_message_forward *f = &got.u.forward;
            const uint8_t *end = (const uint8_t *)f->hidden + stk_message_hidden_bytes(f);
            assert_true(end <= data + length);
            assert_true(!f->draw || f->draw->window_count <= STK_MESSAGE_WINDOW_MAX);
            assert_true((const uint8_t *)(f->rows + f->row_count) <= data + length);
            accepted++;
        }
        free(data);
    }
    assert_true(refused > 1000 && accepted > 100);
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_survives),
        cmocka_unit_test(test_small_ones_survive),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
