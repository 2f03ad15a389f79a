// Workers and memory over nodes: on synthetic machines, with cores missing and memory without
// cores, and pages bound on this one.
#include "base/nodes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/pages.h"
#include "base/team.h"

typedef struct expected {
    const char *machine;
    uint32_t workers, nodes;    // asked for
    uint32_t count, shares[16]; // got: nodes, workers of each
    uint32_t memory[16];        // system numbers
    uint32_t extra[16];         // memory without workers that it has beside its own
} expected;

static stk_nodes *open_nodes(const expected *e)
{
    const stk_nodes_options options = {.worker_count = e->workers,
                                       .worker_max = 512,
                                       .node_count = e->nodes,
                                       .description = e->machine};
    stk_nodes *nodes = NULL;
    assert_int_equal(stk_nodes_open(&options, &nodes), STK_OK);
    return nodes;
}

#define TIERS STK_TEST_DATA "/topology/tiers.xml" // 2 nodes of 2 cores, and memory without cores

static const expected cases[] = {
    {"numa:2 core:4 pu:2", 0, 0, 2, {4, 4}, {0, 1}, {0}},
    {"pack:2 numa:2 core:16 pu:2", 0, 0, 4, {16, 16, 16, 16}, {0, 1, 2, 3}, {0}},
    {"pack:1 core:6 pu:1", 0, 0, 1, {6}, {0}, {0}},
    {"numa:2 core:4 pu:1", 3, 0, 2, {2, 1}, {0, 1}, {0}},
    {"numa:4 core:4 pu:1", 2, 0, 2, {1, 1}, {0, 1}, {1, 1}}, // fewer workers than nodes
    {"numa:4 core:4 pu:1", 1, 0, 1, {1}, {0}, {3}},
    {"numa:2 core:4 pu:1", 20, 0, 2, {10, 10}, {0, 1}, {0}}, // more workers than cores
    {"numa:2 core:4 pu:1", 0, 1, 1, {8}, {0}, {0}},          // kept together
    {"numa:2 core:4 pu:1", 0, 4, 4, {2, 2, 2, 2}, {0, 0, 1, 1}, {0}},
    {"core:2 pu:1", 0, 2, 2, {1, 1}, {0, 0}, {0}},
    {"core:2 pu:1", 4, 4, 4, {1, 1, 1, 1}, {0, 0, 0, 0}, {0}}, // nodes share cores
    {"core:2 pu:1", 5, 3, 3, {2, 2, 1}, {0, 0, 0}, {0}},
    {"core:2 pu:1", 0, 7, 2, {1, 1}, {0, 0}, {0}}, // no node without a worker
    {"core:3 pu:1", 0, 2, 2, {1, 2}, {0, 0}, {0}},
    {TIERS, 0, 0, 2, {2, 2}, {0, 1}, {1, 0}},
    {TIERS, 1, 0, 1, {1}, {0}, {2}},
    // memory of a package, beside that of its caches: to the first of them, in both packages
    {"pack:2 [numa] l3:2 [numa] core:2 pu:1", 0, 0, 4, {2, 2, 2, 2}, {0, 1, 3, 4}, {1, 0, 1, 0}},
};

static void test_shares(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const expected *e = &cases[c];
        uint32_t count, worker = 0;
        stk_nodes *nodes = open_nodes(e);
        const stk_node *list = stk_nodes_list(nodes, &count);
        if (count != e->count)
            fail_msg("%s, %u workers, %u nodes: %u nodes", e->machine, e->workers, e->nodes, count);
        for (uint32_t n = 0; n < count; n++) {
            if (list[n].worker_count != e->shares[n] || list[n].os_index != e->memory[n] ||
                (e->nodes == 0 && list[n].extra_count != e->extra[n]))
                fail_msg("%s, %u workers, %u nodes: node %u has %u workers, memory %u and %u more",
                         e->machine, e->workers, e->nodes, n, list[n].worker_count,
                         list[n].os_index, list[n].extra_count);
            assert_int_equal(list[n].worker_first, worker);
            for (uint32_t i = 0; i < list[n].worker_count; i++)
                assert_int_equal(stk_nodes_of_worker(nodes, worker++), n);
            assert_int_equal(stk_nodes_share_begin(nodes, n, 1000 * worker),
                             1000 * (uint64_t)worker * list[n].worker_first /
                                 stk_nodes_worker_count(nodes));
        }
        assert_int_equal(stk_nodes_worker_count(nodes), worker);
        assert_int_equal(stk_nodes_share_begin(nodes, 0, 77), 0);
        assert_int_equal(stk_nodes_share_begin(nodes, count, 77), 77);
        stk_nodes_close(&nodes);
        assert_null(nodes);
    }
}

// Dealing is fair at every length, and nobody waits for a first one.
static void test_deal(void **state)
{
    (void)state;
    enum { ITEMS_MAX = 500 };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint8_t owner[ITEMS_MAX];
        uint32_t count, got[STK_NODES_MAX] = {0};
        stk_nodes *nodes = open_nodes(&cases[c]);
        const stk_node *list = stk_nodes_list(nodes, &count);
        stk_nodes_deal(nodes, ITEMS_MAX, owner);
        for (uint32_t i = 0; i < ITEMS_MAX; i++) {
            assert_true(owner[i] < count);
            got[owner[i]]++;
            for (uint32_t n = 0; n < count && i + 1 >= count; n++) {
                double share = (double)(i + 1) * list[n].worker_count /
                               stk_nodes_worker_count(nodes);
                assert_true(got[n] >= 1 && got[n] < share + 2 && got[n] > share - 2);
            }
        }
        stk_nodes_close(&nodes);
    }
}

// Pages of each emulated node are where they were asked to be, and binding one does not touch the
// bytes beside it.
static void test_pages(void **state)
{
    (void)state;
    enum { BYTES = 8 << 20 };
    const expected e = {NULL, 4, 4, 4, {0}, {0}, {0}};
    stk_nodes *nodes = open_nodes(&e);
    uint8_t *pages = stk_pages_alloc(BYTES);
    assert_non_null(pages);
    bool placed = true;
    for (uint32_t n = 0; n < 4; n++)
        placed = stk_nodes_place(nodes, n, pages + n * (BYTES / 4), BYTES / 4) && placed;
    assert_int_equal(stk_nodes_find(nodes, 0, pages, BYTES).touched, 0);
    memset(pages, 1, BYTES);
    for (uint32_t n = 0; n < 4; n++) {
        stk_nodes_found found = stk_nodes_find(nodes, n, pages + n * (BYTES / 4), BYTES / 4);
        print_message("node %u: placed %d, %u of %u pages at home\n", n, placed, found.at_home,
                      found.touched);
        if (found.touched == 0) // the system does not say
            continue;
        assert_true(found.touched >= 512);
        if (placed)
            assert_int_equal(found.at_home, found.touched);
    }
    assert_true(stk_nodes_place(nodes, 0, pages + 1, 4096)); // no whole page: nothing to do
    stk_pages_free(pages, BYTES);
    stk_nodes_close(&nodes);
}

enum { ITEMS = 211, PHASES = 40 };

typedef struct work {
    uint32_t counts[4][ITEMS], near[4][ITEMS], all[ITEMS]; // plain: an item is its taker's alone
} work;

static void take_own(stk_worker *worker, void *argument)
{
    work *w = argument;
    uint32_t begin, end;
    for (uint32_t phase = 0; phase < PHASES; phase++) {
        while (stk_worker_take_from(worker, worker->node, ITEMS - worker->node, 2, &begin, &end))
            for (uint32_t i = begin; i < end; i++)
                w->counts[worker->node][i]++;
        stk_worker_barrier(worker);
        while (stk_worker_take(worker, ITEMS, 1, &begin, &end))
            w->all[begin]++;
        stk_worker_barrier(worker);
        while (stk_worker_take_near(worker, ITEMS - worker->node, 3, &begin, &end))
            for (uint32_t i = begin; i < end; i++)
                w->near[worker->node][i]++;
        stk_worker_barrier(worker);
    }
}

static void test_take_from(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= 4; count++) {
        const stk_team_options options = {.worker_count = 5, .node_count = count, .pin = true};
        stk_team *team = NULL;
        uint32_t nodes;
        work w;
        memset(&w, 0, sizeof w);
        assert_int_equal(stk_team_open(&options, &team), STK_OK);
        stk_nodes_list(stk_team_nodes(team), &nodes);
        assert_int_equal(nodes, count);
        stk_team_run(team, take_own, &w);
        for (uint32_t n = 0; n < 4; n++)
            for (uint32_t i = 0; i < ITEMS; i++) {
                uint32_t want = n < count && i < ITEMS - n ? PHASES : 0;
                assert_int_equal(w.counts[n][i], want);
                assert_int_equal(w.near[n][i], want);
            }
        for (uint32_t i = 0; i < ITEMS; i++)
            assert_int_equal(w.all[i], PHASES);
        stk_team_close(&team);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_deal),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_take_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
