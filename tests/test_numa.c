// Memory nodes cut from this machine's cores: the logits of a prompt and its continuation are those
// of one node to the bit, with every expert in memory and with few of them, and nearly all bytes of
// experts are read by workers of the node that holds them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_run.h"

#include "engine/engine_impl.h"
#include "engine/metrics.h"
#include "store/store_impl.h"

#define STORIES STK_MODELS "/stories-q4_0.gguf"

enum { PROMPT = STORE_PROMPT, DECODE = STORE_DECODE, CASES = TEST_FEWER ? 2 : 7 };

typedef struct variant {
    uint32_t nodes, threads;
} variant;

static const variant variants[] = {{2, 2}, {3, 4}, {2, 3}, {3, 3}, {4, 4}, {4, 7}, {2, 1}};

static store_result reference;

static int make_reference(void **state)
{
    (void)state;
    reference = store_reference(STORIES, PROMPT, DECODE);
    return 0;
}

static int drop_reference(void **state)
{
    (void)state;
    store_result_free(&reference);
    store_folder_remove();
    return 0;
}

static stk_engine_options options_of(const variant *v, uint32_t steal_percent)
{
    return (stk_engine_options){.model_path = STORIES,
                                .thread_count = v->threads,
                                .node_count = v->nodes,
                                .steal_percent = steal_percent,
                                .guess_layers = 2,
                                .ignores_sidecar = true,
                                .ignores_usage = true,
                                .planned_session = &store_session_options};
}

// A layer's experts are spread evenly, and each is in a slot of its own node.
static void check_homes(stk_engine *engine)
{
    const stk_expert_store *s = stk_engine_store(engine);
    const stk_model *m = stk_engine_model(engine);
    uint32_t nodes;
    const stk_node *list = stk_nodes_list(stk_team_nodes(stk_engine_team(engine)), &nodes);
    for (uint32_t layer = 0; layer < m->layer_count && nodes > 1; layer++) {
        uint32_t got[STK_NODES_MAX] = {0};
        for (uint32_t e = 0; e < m->expert_count; e++)
            got[stk_expert_store_node(s, layer, e)]++;
        for (uint32_t n = 0; n < nodes; n++) {
            double share = (double)m->expert_count * list[n].worker_count /
                           stk_engine_thread_count(engine);
            assert_true(got[n] > share - 2 && got[n] < share + 2);
        }
    }
    assert_true(nodes == 1 || s->slot_at);
    for (uint32_t i = 0; i < s->slot_count && nodes > 1; i++) {
        uint32_t owner = s->resident ? i : s->slot_entry[i];
        assert_true(s->slot_at[i] >= s->node_first[s->node_of[i]]);
        assert_true(s->slot_at[i] < s->node_first[s->node_of[i] + 1]);
        if (owner != UINT32_MAX)
            assert_int_equal(s->node_of[owner], s->node_of[i]);
    }
    for (uint32_t n = 0; n < nodes && nodes > 1; n++) {
        stk_nodes_found found = stk_expert_store_find(s, stk_team_nodes(stk_engine_team(engine)),
                                                      n);
        assert_int_equal(found.at_home, found.touched);
    }
}

static void check_run(stk_engine *engine, const variant *v, uint32_t batch, double own_least,
                      const char *what)
{
    uint32_t nodes = v->nodes < v->threads ? v->nodes : v->threads;
    assert_int_equal(stk_engine_node_count(engine), nodes);
    stk_session *session = store_session(engine);
    store_result got = store_run(session, batch, PROMPT, DECODE, NULL);
    store_assert_same(&got, &reference, what);
    store_result_free(&got);
    const stk_metrics *m = stk_session_metrics(session);
    assert_int_equal(m->node_count, nodes);
    uint64_t sum = 0;
    for (uint32_t n = 0; n < nodes; n++) {
        assert_true(m->nodes[n].own_bytes > 0);
        sum += m->nodes[n].own_bytes + m->nodes[n].other_bytes;
    }
    // What is counted by component is counted once for all rows of a batch.
    assert_true(sum >= m->bytes[STK_COMPONENT_GATE] + m->bytes[STK_COMPONENT_UP] +
                           m->bytes[STK_COMPONENT_DOWN]);
    double own = stk_metrics_own_fraction(m);
    print_message("%s, %u nodes, %u threads: %.2f %% of expert bytes read on their node\n", what,
                  v->nodes, v->threads, 100 * own);
    assert_true(own >= own_least);
    check_homes(engine);
    stk_session_metrics_reset(session);
    assert_true(stk_metrics_own_fraction(stk_session_metrics(session)) >= 1);
    stk_session_close(&session);
}

static void test_resident(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        static const uint32_t steals[] = {3, 0, 100};
        stk_engine *engine;
        uint32_t steal = steals[c % 3];
        stk_engine_options options = options_of(&variants[c], steal);
        assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
        assert_true(stk_expert_store_is_resident(stk_engine_store(engine)));
        double own_least = steal == 0 ? 1 : steal == 3 ? 0.95 : 0;
        check_run(engine, &variants[c], c % 2 ? 64 : 7, own_least, "resident");
        stk_engine_close(&engine);
    }
}

static void test_few_slots(void **state)
{
    (void)state;
    for (int c = 0; c < CASES; c++) {
        static const uint32_t percents[] = {0, 30, 60};
        stk_engine_options options = options_of(&variants[c], 3);
        stk_engine *engine = store_open_limited(&options);
        store_slots(engine, percents[c % 3]);
        check_run(engine, &variants[c], c % 2 ? 7 : 64, 0.95, "few slots");
        stk_engine_close(&engine);
    }
}

// What a worker reads is counted where it lies, as its own or as another node's.
static void test_far_bytes(void **state)
{
    (void)state;
    enum { LAYER = 1 };
    const stk_engine_options options = options_of(&(variant){2, 2}, 0);
    stk_engine *engine;
    assert_int_equal(stk_engine_open(&options, &engine), STK_OK);
    stk_session *session = store_session(engine);
    uint32_t groups = engine->model.ffn_width / 32;
    stk_expert_cost cost = session->meter->costs[LAYER];
    uint64_t all = groups * (32 * (cost.up_neuron + cost.down_neuron) + cost.down_group);
    for (uint32_t worker = 0; worker < 2; worker++)
        for (uint32_t e = 0; e < 4; e++) {
            const stk_expert_scratch *scratch = &session->workers[worker];
            uint32_t node = stk_expert_store_node(engine->store, LAYER, e);
            stk_session_metrics_reset(session);
            stk_meter_gate(session, scratch, LAYER, e, groups / 2);
            stk_meter_dense(session, scratch, LAYER, e, 3, 5);
            const stk_metrics *m = stk_session_metrics(session);
            uint64_t bytes = cost.gate / 2 + all;
            assert_int_equal(m->nodes[node].own_bytes, node == worker ? bytes : 0);
            assert_int_equal(m->nodes[node].other_bytes, node == worker ? 0 : bytes);
            assert_int_equal(m->nodes[!node].own_bytes + m->nodes[!node].other_bytes, 0);
            assert_int_equal(stk_metrics_own_fraction(m), node == worker);
            assert_int_equal(m->active_neurons[LAYER], 5);
            assert_int_equal(m->gated_neurons[LAYER], 3 * engine->model.ffn_width);
        }
    stk_session_close(&session);
    stk_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resident),
        cmocka_unit_test(test_few_slots),
        cmocka_unit_test(test_far_bytes),
    };
    return cmocka_run_group_tests(tests, make_reference, drop_reference);
}
