// Memory nodes where the system refuses every call about memory placement, as containers without
// the privilege do: the same bits, one line of complaint, no failure. The refusal is a seccomp
// filter over this process.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_run.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/nodes.h"
#include "base/pages.h"
#include "store/store_impl.h"

#define STORIES STK_MODELS "/stories-q4_0.gguf"
enum { PROMPT = 10, DECODE = 4 };

static bool refuse_placement(void)
{
#define REFUSE(call)                                                                               \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),                                               \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        REFUSE(SYS_mbind),
        REFUSE(SYS_move_pages),
        REFUSE(SYS_set_mempolicy),
        REFUSE(SYS_get_mempolicy),
        REFUSE(SYS_migrate_pages),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static store_log lines;

static void test_place(void **state)
{
    (void)state;
    enum { BYTES = 4 << 20 };
    store_log_open(&lines);
    const stk_nodes_options options = {
        .worker_count = 2, .worker_max = 2, .node_count = 2, .log = &lines.log};
    stk_nodes *nodes = NULL;
    assert_int_equal(stk_nodes_open(&options, &nodes), STK_OK);
    uint8_t *pages = stk_pages_alloc(BYTES);
    assert_non_null(pages);
    assert_false(stk_nodes_place(nodes, 0, pages, BYTES));
    assert_false(stk_nodes_place(nodes, 1, pages, BYTES));
    assert_int_equal(lines.warnings, 1);
    memset(pages, 1, BYTES);
    assert_int_equal(stk_nodes_find(nodes, 0, pages, BYTES).touched, 0);
    stk_pages_free(pages, BYTES);
    stk_nodes_close(&nodes);
}

static void compare(stk_engine *engine, const store_result *want, const char *what)
{
    assert_int_equal(stk_engine_node_count(engine), 2);
    stk_session *session = store_session(engine);
    store_result got = store_run(session, 7, PROMPT, DECODE, NULL);
    store_assert_same(&got, want, what);
    store_result_free(&got);
    stk_session_close(&session);
    stk_engine_close(&engine);
}

static void test_engine_runs(void **state)
{
    (void)state;
    store_result want = store_reference(STORIES, PROMPT, DECODE);
    const stk_engine_options options = {.model_path = STORIES,
                                        .log = &lines.log,
                                        .thread_count = 3,
                                        .node_count = 2,
                                        .ignores_sidecar = true,
                                        .ignores_usage = true,
                                        .planned_session = &store_session_options};
    stk_engine *engine;
    store_log_clear(&lines);
    assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
    assert_int_equal(lines.warnings, 1);
    assert_true(store_log_says(&lines, "memory cannot be bound to its node"));
    assert_true(store_log_says(&lines, "where its pages are is not known"));
    assert_int_equal(lines.errors, 0);
    compare(engine, &want, "resident");
    engine = store_open_limited(&options);
    store_slots(engine, 40);
    compare(engine, &want, "few slots");
    store_result_free(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_engine_runs),
    };
    if (!refuse_placement()) {
        fprintf(stderr, "the system takes no filter of calls: %s\n", strerror(errno));
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
