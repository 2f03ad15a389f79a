// Slots and experts of a machine with several memory nodes.
//
// Both are dealt out in turn, in proportion to the nodes' workers: a layer's experts are spread
// evenly, and so is any number of slots, also when memory pressure takes the last ones away.
#include "store/store_impl.h"

#include <stdlib.h>

#include "base/team.h"

enum { PAGE_BYTES = 4096 };

// Every slot's place: those of a node side by side, in the order of their numbers.
static void number_places(stk_expert_store *s)
{
    uint32_t next[STK_NODES_MAX];
    for (uint32_t i = 0; i < s->slot_count; i++)
        s->node_first[s->node_of[i] + 1]++;
    for (uint32_t n = 0; n < s->node_count; n++) {
        next[n] = s->node_first[n];
        s->node_first[n + 1] += s->node_first[n];
    }
    for (uint32_t i = 0; i < s->slot_count; i++)
        s->slot_at[i] = next[s->node_of[i]]++;
}

// Where pages cannot be bound, workers of the node touch them first.
static void touch_worker(stk_worker *worker, void *argument)
{
    stk_expert_store *s = argument;
    uint32_t i, end;
    while (stk_worker_take_from(worker, worker->node, s->slot_count, 1, &i, &end))
        for (uint64_t at = 0; s->node_of[i] == worker->node && at < s->slot_bytes; at += PAGE_BYTES)
            ((volatile uint8_t *)stk_store_slot(s, i))[at] = 0;
}

stk_status stk_store_divide(stk_expert_store *s, stk_team *team)
{
    stk_nodes *nodes = stk_team_nodes(team);
    uint32_t total = s->model->layer_count * s->model->expert_count;
    stk_nodes_list(nodes, &s->node_count);
    if (s->node_count == 1)
        return STK_OK;
    s->node_of = malloc(total);
    if (!s->node_of)
        return STK_NO_MEMORY;
    stk_nodes_deal(nodes, total, s->node_of);
    if (s->slot_count < s->node_count) {
        stk_warn(s->log, "%u slots are too few for %u memory nodes: they are shared", s->slot_count,
                 s->node_count);
        return STK_OK;
    }
    s->slot_at = calloc(s->slot_count, sizeof *s->slot_at);
    if (!s->slot_at)
        return STK_NO_MEMORY;
    number_places(s);
    bool placed = true;
    for (uint32_t n = 0; n < s->node_count; n++) {
        uint64_t from = s->node_first[n] * s->slot_bytes;
        uint64_t to = s->node_first[n + 1] * s->slot_bytes;
        placed = stk_nodes_place(nodes, n, s->slots + from, to - from) && placed;
    }
    if (!placed && !s->resident) // else the workers that load are the first
        stk_team_run(team, touch_worker, s);
    return STK_OK;
}

uint32_t stk_expert_store_node(const stk_expert_store *s, uint32_t layer, uint32_t expert)
{
    return s->node_of ? s->node_of[stk_store_entry(s, layer, expert)] : 0;
}

stk_nodes_found stk_expert_store_find(const stk_expert_store *s, const stk_nodes *nodes,
                                      uint32_t node)
{
    if (!s->slot_at)
        return (stk_nodes_found){0, 0};
    uint64_t from = s->node_first[node] * s->slot_bytes;
    uint64_t to = s->node_first[node + 1] * s->slot_bytes;
    return stk_nodes_find(nodes, node, s->slots + from, to - from);
}
