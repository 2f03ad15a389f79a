// Reads of experts that fail: the forward pass that needs the expert fails with a line that names
// file, offset and errno; the next one on the same session succeeds with the right numbers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_break.h"
#include "store_run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROMPT = 12, DECODE = 8 };

static store_log logged;
static store_result want;
static char tiny[256];

static stk_engine *open_engine(stk_io_kind io, bool buffered, uint32_t guess_layers)
{
    const stk_engine_options options = {.model_path = tiny,
                                        .log = &logged.log,
                                        .thread_count = 2,
                                        .io = io,
                                        .buffered_reads = buffered,
                                        .guess_layers = guess_layers,
                                        .ignores_sidecar = true,
                                        .ignores_usage = true};
    store_log_open(&logged);
    stk_engine *engine = store_open_limited(&options);
    store_slots(engine, 0);
    store_log_clear(&logged);
    return engine;
}

static void check_run(stk_session *session, uint32_t batch_rows, uint32_t *failures,
                      const char *what)
{
    store_result got = store_run(session, batch_rows, PROMPT, DECODE, failures);
    store_assert_same(&got, &want, what);
    store_result_free(&got);
}

static void nth_read_fails(void **state)
{
    (void)state;
    static const uint32_t nths[] = {1, 2, 3, 4, 5, 7, 11, 17, 29, 47, 80, 131, 300, 700};
    for (int io = STK_IO_URING; io <= STK_IO_THREADS; io++) {
        uint32_t failed = 0, runs = TEST_FEWER ? 6 : sizeof nths / sizeof *nths;
        stk_engine *engine = open_engine((stk_io_kind)io, io == STK_IO_THREADS, 1);
        stk_session *session = store_session(engine);
        for (uint32_t i = 0; i < runs; i++) {
            uint32_t failures = 0;
            store_log_clear(&logged);
            store_break_reads(STORE_FAULT_ERROR, EIO, nths[i]);
            check_run(session, i % 2 ? 1 : 5, &failures, "after an error");
            assert_int_equal(atomic_load(&breaks.struck), 1);
            store_break_nothing();
            assert_true(failures <= 1); // none when it struck a guess that nobody needed
            failed += failures;
            assert_int_equal(logged.errors, 1);
            assert_true(store_log_says(&logged, tiny));
            assert_true(store_log_says(&logged, ", at byte "));
            assert_true(store_log_says(&logged, strerror(EIO)));
        }
        assert_true(failed > runs / 2);
        stk_session_close(&session);
        stk_engine_close(&engine);
    }
}

// Errors that last: every forward fails, none hangs, and when the disk is back so is the model.
static void lasting_error(void **state)
{
    (void)state;
    for (int io = STK_IO_URING; io <= STK_IO_THREADS; io++) {
        stk_engine *engine = open_engine((stk_io_kind)io, false, 3);
        stk_session *session = store_session(engine);
        char away[300];
        snprintf(away, sizeof away, "%s.away", tiny);
        for (uint32_t batch = 1; batch <= 12; batch += 11) {
            stk_row rows[12];
            for (uint32_t i = 0; i < batch; i++)
                rows[i] = (stk_row){.position = i, .token = (int32_t)i};
            struct stat st;
            assert_int_equal(stat(tiny, &st), 0);
            assert_int_equal(stk_session_truncate(session, 0, 0), STK_OK);
            // Cut in the middle of the run: what lies behind the cut is gone.
            char command[700];
            snprintf(command, sizeof command, "cp -p %s %s", tiny, away);
            assert_int_equal(system(command), 0);
            assert_int_equal(truncate(tiny, batch == 1 ? 0 : 4096 * 8), 0);
            store_log_clear(&logged);
            for (int i = 0; i < 5; i++)
                assert_int_equal(stk_session_forward(session, rows, batch), STK_IO);
            assert_true(store_log_says(&logged, "the file has become shorter"));
            assert_int_equal(stk_session_length(session, 0), 0);
            // what was learnt from the header does not need the file
            stk_str name = stk_gguf_tensor_at(stk_engine_gguf(engine), 0)->name;
            assert_int_equal(name.len_bytes, strlen("token_embd.weight"));
            assert_memory_equal(name.data, "token_embd.weight", name.len_bytes);
            snprintf(command, sizeof command, "cat %s > %s", away, tiny); // the same inode
            assert_int_equal(system(command), 0);
            check_run(session, 5, NULL, "after the file came back");
        }
        unlink(away);
        stk_session_close(&session);
        stk_engine_close(&engine);
    }
}

static void short_and_interrupted(void **state)
{
    (void)state;
    for (int io = STK_IO_URING; io <= STK_IO_THREADS; io++)
        for (int buffered = 0; buffered < 2; buffered++) {
            stk_engine *engine = open_engine((stk_io_kind)io, buffered, 1);
            stk_session *session = store_session(engine);
            for (store_fault fault = STORE_FAULT_HALF; fault <= STORE_FAULT_EINTR; fault++) {
                store_break_reads(fault, 0, 0);
                check_run(session, 5, NULL, "short or interrupted reads");
                assert_true(atomic_load(&breaks.struck) > 100);
                store_break_nothing();
            }
            assert_int_equal(logged.errors, 0);
            stk_session_close(&session);
            stk_engine_close(&engine);
        }
}

// The model is loaded whole with reads that are short, and not at all with one that fails.
static void loading(void **state)
{
    (void)state;
    store_log_open(&logged);
    const stk_engine_options options = {.model_path = tiny,
                                        .log = &logged.log,
                                        .thread_count = 2,
                                        .ignores_sidecar = true,
                                        .ignores_usage = true,
                                        .planned_session = &store_session_options};
    stk_engine *engine = NULL;
    store_break_reads(STORE_FAULT_HALF, 0, 0);
    assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
    store_break_nothing();
    stk_session *session = store_session(engine);
    check_run(session, 5, NULL, "loaded in short reads");
    stk_session_close(&session);
    stk_engine_close(&engine);
    for (uint32_t nth = 1; nth < 500; nth = 2 * nth + 1) {
        store_log_clear(&logged);
        store_break_reads(STORE_FAULT_ERROR, EIO, nth);
        stk_status status = stk_engine_open(&options, &engine);
        uint32_t struck = atomic_load(&breaks.struck);
        store_break_nothing();
        assert_int_equal(status, struck ? STK_IO : STK_OK);
        if (struck)
            assert_true(store_log_says(&logged, strerror(EIO)) && store_log_says(&logged, tiny));
        stk_engine_close(&engine);
    }
}

static void ring_refused(void **state)
{
    (void)state;
    atomic_store(&breaks.ring_refused, true);
    const stk_engine_options found = {.model_path = tiny,
                                      .log = &logged.log,
                                      .thread_count = 2,
                                      .guess_layers = 1,
                                      .ignores_sidecar = true,
                                      .ignores_usage = true};
    store_log_open(&logged);
    stk_engine *engine = store_open_limited(&found);
    assert_true(store_log_says(&logged, "io_uring is not available; reading with threads"));
    assert_string_equal(stk_expert_store_io_name(stk_engine_store(engine)), "threads");
    stk_session *session = store_session(engine);
    check_run(session, 5, NULL, "without io_uring");
    stk_session_close(&session);
    stk_engine_close(&engine);

    // where io_uring was asked for by name, that is an error
    store_log_open(&logged);
    stk_io *ring = NULL;
    const stk_io_options options = {.kind = STK_IO_URING, .inflight_max = 4, .log = &logged.log};
    assert_int_equal(stk_io_open(&options, &ring), STK_UNSUPPORTED);
    assert_true(store_log_says(&logged, "io_uring is not available"));
    assert_int_equal(logged.errors, 1);
    store_break_nothing();
}

// A ring that stops working fails forwards; it hangs none and does not stop the process.
static void ring_dies(void **state)
{
    (void)state;
    stk_engine *engine = open_engine(STK_IO_URING, false, 1);
    stk_session *session = store_session(engine);
    check_run(session, 5, NULL, "while the ring lives");
    assert_int_equal(stk_session_truncate(session, 0, 0), STK_OK);
    atomic_store(&breaks.ring_dies, true);
    const stk_row row = {.token = 200};
    for (int i = 0; i < 4; i++)
        assert_int_equal(stk_session_forward(session, &row, 1), STK_IO);
    assert_true(store_log_says(&logged, "io_uring: "));
    stk_session_close(&session);
    stk_engine_close(&engine);
    store_break_nothing();
}

static void usage_file(void **state)
{
    (void)state;
    char usage[256];
    snprintf(usage, sizeof usage, "%s", store_path("tiny.usage"));
    stk_engine_options options = {.model_path = tiny,
                                  .log = &logged.log,
                                  .thread_count = 2,
                                  .usage_path = usage,
                                  .ignores_sidecar = true};
    store_log_open(&logged);
    for (int i = 0; i < 5; i++) { // none, good, corrupt, short, of another shape
        FILE *f = i >= 2 ? fopen(usage, "r+b") : NULL;
        uint32_t other = 9;
        if (f && i == 2)
            assert_true(fseek(f, 40, SEEK_SET) == 0 && fwrite("damaged", 7, 1, f) == 1);
        if (f && i == 3)
            assert_int_equal(ftruncate(fileno(f), 60), 0);
        if (f && i == 4)
            assert_true(fseek(f, 12, SEEK_SET) == 0 && fwrite(&other, 4, 1, f) == 1);
        if (f)
            fclose(f);
        store_log_clear(&logged);
        stk_engine *engine = store_open_limited(&options);
        assert_int_equal(store_log_says(&logged, "ignored"), i >= 2);
        uint32_t warmed = stk_expert_store_get_stats(stk_engine_store(engine)).slots_used;
        assert_int_equal(warmed > 0, i == 1);
        stk_session *session = store_session(engine);
        check_run(session, 5, NULL, "with a usage file");
        stk_session_close(&session);
        stk_engine_close(&engine);
        assert_int_equal(access(usage, R_OK), 0);
        assert_int_equal(logged.errors, 0);
    }
    options.usage_path = "/proc/no-such-folder/tiny.usage"; // unwritable, even for root
    stk_engine *engine = store_open_limited(&options);
    stk_session *session = store_session(engine);
    check_run(session, 5, NULL, "with an unwritable folder");
    stk_session_close(&session);
    stk_engine_close(&engine);
    assert_int_equal(logged.errors + logged.warnings, 0);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(tiny, sizeof tiny, "%s", store_path("tiny.gguf"));
    store_write_tiny(tiny, false, 1);
    want = store_reference(tiny, PROMPT, DECODE);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_result_free(&want);
    store_folder_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nth_read_fails),
        cmocka_unit_test(lasting_error),
        cmocka_unit_test(short_and_interrupted),
        cmocka_unit_test(loading),
        cmocka_unit_test(ring_refused),
        cmocka_unit_test(ring_dies),
        cmocka_unit_test(usage_file),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
