#include "plan_shapes.h"

#include <math.h>
#include <stdio.h>

static stk_plan_model make(uint32_t layers, uint32_t width, uint32_t heads, uint32_t kv_heads,
                           uint32_t experts, uint32_t used)
{
    stk_plan_model m = {.layer_count = layers,
                        .width = width,
                        .ffn_width = 768,
                        .expert_count = experts,
                        .expert_used_count = used,
                        .kv_position_bytes = 4 * kv_heads * 128,
                        .attention_macs = (uint64_t)(2 * heads + 2 * kv_heads) * 128 * width,
                        .attention_rows = (heads + 2 * kv_heads) * 128,
                        .attend_macs = (uint64_t)2 * heads * 128,
                        .active_fraction = 0.4,
                        .head_macs = (uint64_t)151936 * width,
                        .slots_min = used + 1,
                        .program_bytes = 32 * MIB,
                        .context_tokens = 4096};
    uint64_t matrix = (uint64_t)768 * width * 9 / 16;
    m.gate_bytes = m.up_bytes = m.down_bytes = matrix;
    m.slot_bytes = m.read_bytes = 3 * matrix;
    m.router_bytes = (uint64_t)experts * width * 4;
    m.attention_bytes = m.attention_macs * 9 / 16 + m.router_bytes;
    m.head_bytes = m.head_macs * 9 / 16;
    m.dense_bytes = m.dense_limited_bytes = layers * m.attention_bytes + m.head_bytes;
    m.staging_bytes = 16 * m.read_bytes;
    m.session_bytes = (uint64_t)layers * m.kv_position_bytes * 4096 + 2 * MIB;
    m.session_least_bytes = 2 * MIB;
    m.session_row_bytes = (uint64_t)width * 4 * (8 + used);
    m.session_worker_bytes = MIB;
    for (int d = 0; d <= STK_PLAN_GUESS_MAX; d++) {
        m.guess_recall[d] = 0.9 * (1 - pow(0.2, d));
        m.guess_waste[d] = 0.06 * d;
    }
    stk_skew_assume(layers, experts, used, 3, &m.skew);
    return m;
}

stk_plan_model plan_model_4b(void)
{
    return make(32, 1536, 12, 2, 32, 4);
}

stk_plan_model plan_model_21b(void)
{
    stk_plan_model m = make(52, 2560, 28, 4, 64, 6);
    m.windowed_layers = 39;
    m.window_tokens = 4096;
    return m;
}

stk_plan_node plan_node(uint32_t cores, uint64_t memory, double gb_s, double one_gb_s)
{
    return (stk_plan_node){.core_count = cores,
                           .memory_bytes = memory,
                           .read_bytes_per_s = gb_s * 1e9,
                           .one_bytes_per_s = one_gb_s * 1e9,
                           .runs_bytes_per_s = gb_s * 0.8e9,
                           .one_runs_bytes_per_s = one_gb_s * 0.8e9};
}

stk_plan_machine plan_machine(uint32_t nodes, uint32_t cores, uint64_t memory, double gb_s)
{
    stk_plan_machine m = {.node_count = nodes,
                          .worker_max = nodes * cores,
                          .memory_available_bytes = nodes * memory / 10 * 9,
                          .memory_hard_bytes = nodes * memory,
                          .decode_macs_per_s = 20e9,
                          .prefill_macs_per_s = 80e9,
                          .barrier_s = 1e-6 + 0.05e-6 * nodes * cores,
                          .disk_bytes_per_s = 2e9,
                          .disk_latency_s = 100e-6,
                          .link_bytes_per_s = 1e9,
                          .link_latency_s = 30e-6};
    for (uint32_t i = 0; i < nodes; i++)
        m.nodes[i] = plan_node(cores, memory, gb_s, fmin(gb_s, 12));
    return m;
}

void plan_add_gpu(stk_plan_machine *machine, uint64_t memory, bool is_integrated, double gb_s)
{
    stk_plan_gpu *g = &machine->gpus[machine->gpu_count++];
    *g = (stk_plan_gpu){.is_integrated = is_integrated,
                        .memory_bytes = memory,
                        .read_bytes_per_s = gb_s * 1e9,
                        .operations_per_s = gb_s * 50e9,
                        .submit_s = 60e-6,
                        .link_bytes_per_s = is_integrated ? gb_s * 1e9 : 12e9};
    snprintf(g->name, sizeof g->name, "invented GPU %u", machine->gpu_count);
}

stk_plan_wishes plan_open_wishes(void)
{
    return (stk_plan_wishes){.worker_count = STK_PLAN_OPEN,
                             .batch_rows = STK_PLAN_OPEN,
                             .guess_layers = STK_PLAN_OPEN,
                             .reads_inflight = STK_PLAN_OPEN,
                             .gpu_percent = STK_PLAN_OPEN,
                             .gpu_layers = STK_PLAN_OPEN,
                             .gpu_head = STK_PLAN_OPEN};
}
