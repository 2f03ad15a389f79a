// What fits: everything is counted before anything is loaded, and refused with numbers.
#include "cluster/cluster.h"
#include "engine/engine_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "topology/limits.h"

enum { CONTEXT_LIMITED = 4096, CONTEXT_LEAST = 512 };
static const uint64_t VOCAB_BYTES_PER_TOKEN = 48;

// Allocator slack, thread stacks and libraries touched later; the huge page, half in use, in which
// the slots in use end; and the page tables of the first GiB.
static const uint64_t PROGRAM_SLACK_BYTES = 5u << 20;
// A control group also counts page tables: 8 bytes for each page of 4 KiB, huge or not.
enum { BYTES_PER_TABLE_BYTE = 512 };
// By so much the program itself differs from one start to the next: which pages of libraries are
// mapped depends on where they lie and what the page cache holds.
static const uint64_t RESIDENT_VARIES_BYTES = 512u << 10;
enum { BATCH_ROWS = 512, BATCH_ROWS_LEAST = 32 };

static uint64_t read_number_after(const char *path, const char *key)
{
    FILE *f = fopen(path, "re");
    char line[256];
    uint64_t value = 0;
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0 &&
            sscanf(line + strlen(key), " %" SCNu64, &value) == 1)
            break;
    if (f)
        fclose(f);
    return value;
}

static uint64_t resident_now_bytes(void)
{
    return read_number_after("/proc/self/status", "VmRSS:") * 1024;
}

// Ranks on one machine divide what it has.
static uint64_t share_of(const stk_engine *engine, uint64_t bytes)
{
    return engine->cluster ? bytes / stk_cluster_ranks_here(engine->cluster) : bytes;
}

uint64_t stk_memory_plan_program_bytes(const stk_engine *engine)
{
    const stk_model *m = &engine->model;
    return resident_now_bytes() + PROGRAM_SLACK_BYTES +
           (stk_model_has_embedding(m) ? m->vocab_size * VOCAB_BYTES_PER_TOKEN : 0);
}

// Of the page tables of so much memory, what the slack does not hold.
static uint64_t table_bytes(uint64_t limit_bytes)
{
    const uint64_t first = UINT64_C(1) << 30;
    return limit_bytes > first ? (limit_bytes - first) / BYTES_PER_TABLE_BYTE : 0;
}

uint64_t stk_memory_plan_named_mib(uint64_t least_bytes)
{
    return (least_bytes + RESIDENT_VARIES_BYTES + (1 << 20) - 1) >> 20;
}

uint64_t stk_memory_plan_available_bytes(const stk_engine *engine)
{
    stk_limits limits;
    stk_limits_read("", NULL, &limits);
    return share_of(engine, limits.memory_available_bytes);
}

// What can be had without pushing others out, and what nobody gets more than: of the machine that
// is planned for, else of this one, where a control group may allow less.
static void read_limits(const stk_engine *engine, const stk_engine_options *options,
                        stk_limits *limits)
{
    const stk_plan_machine *machine = options->machine;
    stk_limits_read("", NULL, limits);
    limits->memory_available_bytes = share_of(engine, limits->memory_available_bytes);
    if (machine && engine->is_planning) {
        limits->memory_available_bytes = machine->memory_available_bytes;
        limits->memory_limit_bytes = machine->memory_hard_bytes ? machine->memory_hard_bytes
                                                                : STK_LIMIT_NONE;
    }
}

// A control group kills whoever takes more than it allows, whatever the user asked for.
static void heed_hard_limit(stk_engine *engine, const stk_limits *limits)
{
    stk_memory_plan *p = &engine->memory;
    if (p->limit_bytes <= limits->memory_limit_bytes) // the very limit holds: it counts everything
        return;
    uint64_t most = limits->memory_limit_bytes / 100 * 95;
    stk_warn(engine->log, "only %.1f MiB are allowed here (control group): limited to %.1f MiB",
             (double)limits->memory_limit_bytes / 0x1p20, (double)most / 0x1p20);
    p->limit_bytes = most;
}

static void report(const stk_log *log, const stk_memory_plan *p, stk_log_level level)
{
    const struct {
        const char *name;
        uint64_t bytes;
    } rows[] = {
        {"program and vocabulary", p->program_bytes},
        {"attention, routers, head", p->weights_bytes},
        {"KV cache and scratch", p->session_bytes},
        {"reads in flight", p->staging_bytes},
        {"GPU's buffers", p->device_bytes},
        {"experts", p->cache_bytes},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].bytes != 0)
            stk_log_write(log, level, "  %-26s %9.1f MiB", rows[i].name,
                          (double)rows[i].bytes / 0x1p20);
    stk_log_write(log, level, "  %-26s %9.1f MiB", "sum", (double)p->total_bytes / 0x1p20);
}

static stk_status count_session(stk_engine *engine, const stk_engine_options *options)
{
    const stk_session_options none = {0};
    const stk_session_options *session = options->planned_session;
    return stk_session_bytes(engine, session ? session : &none, &engine->memory.session_bytes,
                             &engine->memory.session_least_bytes);
}

// A prompt's chunk reads every expert that is not in memory, so large chunks pay; their scratch
// takes slots only while they compute. Without a wish: as many rows as a small part of the limit
// holds.
static stk_status choose_rows(stk_engine *engine, const stk_engine_options *options)
{
    stk_memory_plan *p = &engine->memory;
    stk_session_options session = {0};
    uint64_t bytes, least;
    if (options->planned_session)
        session = *options->planned_session;
    session.context_tokens = 1;
    if (engine->is_planned) {
        p->batch_rows = engine->plan.choices.batch_rows;
        return STK_OK;
    }
    for (p->batch_rows = BATCH_ROWS; p->limit_bytes != 0; p->batch_rows /= 2) {
        stk_status status = stk_session_bytes(engine, &session, &bytes, &least);
        if (status != STK_OK || bytes <= p->limit_bytes / 12 || p->batch_rows <= BATCH_ROWS_LEAST)
            return status;
    }
    return STK_OK;
}

// Without a wish, a limited session gets a context that leaves room for experts.
static stk_status choose_context(stk_engine *engine, const stk_engine_options *options)
{
    stk_memory_plan *p = &engine->memory;
    const stk_session_options *session = options->planned_session;
    uint32_t model_context = engine->model.context_tokens;
    if (session && session->context_tokens != 0) {
        p->context_tokens = session->context_tokens;
        return count_session(engine, options);
    }
    if (engine->is_planned) {
        p->context_tokens = engine->plan.context_tokens;
        return count_session(engine, options);
    }
    p->context_tokens = model_context;
    stk_status status = count_session(engine, options);
    if (p->limit_bytes == 0 || status != STK_OK || p->session_bytes <= p->limit_bytes / 4)
        return status;
    if (p->context_tokens > CONTEXT_LIMITED)
        p->context_tokens = CONTEXT_LIMITED;
    for (;;) {
        status = count_session(engine, options);
        if (status != STK_OK || p->session_bytes <= p->limit_bytes / 4 ||
            p->context_tokens <= CONTEXT_LEAST)
            break;
        p->context_tokens /= 2;
    }
    if (status == STK_OK && p->context_tokens < model_context)
        stk_info(engine->log, "context of %u tokens to leave memory for experts (--ctx sets it)",
                 p->context_tokens);
    return status;
}

static void add_up(stk_memory_plan *p)
{
    p->total_bytes = p->program_bytes + p->weights_bytes + p->session_bytes + p->staging_bytes +
                     p->device_bytes + p->cache_bytes;
}

// How many slots there are with the session in full use, and with as little as it ever uses.
static void fit_experts(stk_memory_plan *p, uint64_t slot_bytes)
{
    p->cache_bytes = 0;
    add_up(p);
    uint64_t fixed = p->total_bytes - p->session_bytes;
    p->shared_bytes = p->limit_bytes > fixed ? p->limit_bytes - fixed : 0;
    uint64_t left = p->shared_bytes > p->session_bytes ? p->shared_bytes - p->session_bytes : 0;
    uint64_t most = left + p->session_bytes - p->session_least_bytes + p->staging_bytes;
    p->slots = left / slot_bytes < p->experts ? (uint32_t)(left / slot_bytes) : p->experts;
    p->slots_max = most / slot_bytes < p->experts ? (uint32_t)(most / slot_bytes) : p->experts - 1;
}

// Takes from what nobody asked for. False: there is nothing left.
static bool shrink_session(stk_memory_plan *p, const stk_engine_options *options)
{
    const stk_session_options *session = options->planned_session;
    if (p->batch_rows > BATCH_ROWS_LEAST && (!session || session->batch_rows_max == 0))
        p->batch_rows /= 2;
    else if (p->context_tokens > CONTEXT_LEAST && (!session || session->context_tokens == 0))
        p->context_tokens /= 2;
    else
        return false;
    return true;
}

static stk_status refuse(stk_engine *engine, uint64_t slot_bytes)
{
    stk_memory_plan *p = &engine->memory;
    p->slots = stk_expert_store_slots_min(&engine->model);
    p->cache_bytes = p->slots * slot_bytes;
    add_up(p);
    stk_error(engine->log, "%.1f MiB are too little for this model; the least is:",
              (double)p->limit_bytes / 0x1p20);
    report(engine->log, p, STK_LOG_ERROR);
    return stk_fail(engine->log, STK_NO_MEMORY,
                    "give --memory %" PRIu64 "MiB or more, or a smaller --ctx or --batch",
                    stk_memory_plan_named_mib(p->total_bytes));
}

stk_status stk_memory_plan_make(stk_engine *engine, const stk_engine_options *options)
{
    const stk_model *m = &engine->model;
    const stk_nodes *nodes = stk_team_nodes(engine->team);
    stk_memory_plan *p = &engine->memory;
    uint64_t slot_bytes = stk_expert_store_slot_bytes(m);
    *p = (stk_memory_plan){.limit_bytes = options->memory_bytes,
                           .experts = m->layer_count * m->expert_count};
    stk_limits limits;
    read_limits(engine, options, &limits);
    uint64_t available = limits.memory_available_bytes;
    heed_hard_limit(engine, &limits);
    p->program_bytes = stk_memory_plan_program_bytes(engine) + table_bytes(p->limit_bytes);
    p->device_bytes = stk_gpu_shared_bytes(engine);
    p->weights_bytes = stk_weights_bytes(m, nodes, false);
    stk_status status = choose_rows(engine, options);
    if (status == STK_OK)
        status = choose_context(engine, options);
    if (status != STK_OK)
        return status;
    p->slots = p->experts;
    p->cache_bytes = p->experts * slot_bytes;
    add_up(p);
    uint64_t with_file = p->total_bytes + p->weights_bytes + p->cache_bytes;
    p->reads_direct = p->limit_bytes != 0 || (available != 0 && with_file > available);
    if (p->limit_bytes == 0 && available != 0 && p->total_bytes > available / 100 * 95) {
        p->limit_bytes = available / 100 * 85;
        p->reads_direct = true;
        p->program_bytes += table_bytes(p->limit_bytes);
        stk_info(engine->log,
                 "the model needs %.2f GiB, %.2f GiB are available: limited to %.2f GiB",
                 (double)p->total_bytes / 0x1p30, (double)available / 0x1p30,
                 (double)p->limit_bytes / 0x1p30);
        status = choose_rows(engine, options);
        if (status == STK_OK)
            status = choose_context(engine, options);
        if (status != STK_OK)
            return status;
    }
    if (p->limit_bytes == 0 || p->total_bytes <= p->limit_bytes)
        return STK_OK;
    p->embedding_on_demand = stk_model_has_embedding(m) &&
                             (m->output != m->token_embd || !stk_model_has_head(m));
    p->weights_bytes = stk_weights_bytes(m, nodes, p->embedding_on_demand);
    add_up(p);
    if (p->total_bytes <= p->limit_bytes) // all experts, then
        return STK_OK;
    p->staging_bytes = stk_expert_store_overhead_bytes(m);
    fit_experts(p, slot_bytes);
    while (p->slots < stk_expert_store_slots_min(m) && shrink_session(p, options)) {
        status = count_session(engine, options);
        if (status != STK_OK)
            return status;
        fit_experts(p, slot_bytes);
    }
    if (p->slots < stk_expert_store_slots_min(m))
        return refuse(engine, slot_bytes);
    p->cache_bytes = p->slots * slot_bytes;
    add_up(p);
    stk_info(engine->log,
             "%u of %u experts fit into memory, up to %u while the context is short; plan for %.1f "
             "MiB:",
             p->slots, p->experts, p->slots_max, (double)p->limit_bytes / 0x1p20);
    report(engine->log, p, STK_LOG_INFO);
    return STK_OK;
}
