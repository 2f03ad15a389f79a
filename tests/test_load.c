// Opening an engine that is told to stop, at once and while it reads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/engine.h"
#include <string.h>
#include <unistd.h>

enum { READERS = 8 }; // at most, for one worker

#define STORIES STK_MODELS "/stories-q4_0.gguf"

typedef struct seen {
    atomic_int cancel;
    const char *cancel_at; // raises the flag at the first progress of this name
    uint64_t expert_total;
    uint32_t errors, experts_loaded;
} seen;

static void on_write(void *user, stk_log_level level, const char *line)
{
    (void)line;
    ((seen *)user)->errors += level == STK_LOG_ERROR;
}

static void on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    seen *s = user;
    if (strcmp(what, "loading experts") == 0) {
        s->experts_loaded = done > s->experts_loaded ? (uint32_t)done : s->experts_loaded;
        s->expert_total = total;
    }
    if (s->cancel_at && strcmp(what, s->cancel_at) == 0)
        atomic_store(&s->cancel, 1);
}

static stk_status open_and_close(seen *s)
{
    const stk_log log = {on_write, on_progress, s, STK_LOG_ERROR};
    const stk_engine_options options = {
        .model_path = STORIES, .log = &log, .thread_count = 1, .cancel = &s->cancel};
    stk_engine *engine = NULL;
    stk_status status = stk_engine_open(&options, &engine);
    assert_int_equal(engine != NULL, status == STK_OK);
    stk_engine_close(&engine);
    return status;
}

static void cancelled(void **state)
{
    (void)state;
    seen s = {0};
    assert_int_equal(open_and_close(&s), STK_OK);
    assert_int_equal(s.experts_loaded, s.expert_total);

    s = (seen){.cancel = 1};
    assert_int_equal(open_and_close(&s), STK_CANCELLED);
    assert_int_equal(s.experts_loaded, 0);

    s = (seen){.cancel_at = "loading attention and head"};
    assert_int_equal(open_and_close(&s), STK_CANCELLED);
    assert_int_equal(s.experts_loaded, 0);

    s = (seen){.cancel_at = "loading experts"};
    assert_int_equal(open_and_close(&s), STK_CANCELLED);
    assert_in_range(s.experts_loaded, 1, READERS); // what was under way
    assert_true(s.expert_total > READERS);
    assert_int_equal(s.errors, 0);
}

int main(void)
{
    if (access(STORIES, R_OK) != 0)
        return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(cancelled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
