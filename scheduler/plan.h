// scheduler/plan.h: from what a machine is and what a model needs to how to run it, and how fast
// that should be.
//
// Pure: plain structs in, a plan out; no I/O, no clock, nothing kept. The engine
// fills in the sizes of a model, the command line what is known of a machine, so that invented
// machines can be planned for like real ones. docs/scheduler.md explains the cost model.
// Invariant: a plan fits every limit, and keeps every value the user gave.
#ifndef STK_SCHEDULER_PLAN_H
#define STK_SCHEDULER_PLAN_H

#include "base/status.h"
#include "scheduler/skew.h"
#include "scheduler/split.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    STK_PLAN_NODES_MAX = 64,
    STK_PLAN_GPUS_MAX = 8,
    STK_PLAN_RANKS_MAX = STK_SPLIT_RANKS_MAX,
    STK_PLAN_GUESS_MAX = 8,
    STK_PLAN_NAME_BYTES = 64,
    STK_PLAN_RATES_MAX = 48,
    STK_PLAN_MIX_MAX = 6,
};

// How fast a core multiplies with one kind of weights from its caches while the others do the same:
// int8 multiply-adds per second.
typedef struct stk_plan_rate {
    uint32_t kernel; // the caller's word for the kind of weights and of product; not 0
    double one_macs_per_s, many_macs_per_s; // one row at a time, many rows
} stk_plan_rate;

// What the weights of a product are, as shares of its multiply-adds. Kinds without a rate, and a
// mix of nothing, are taken to be as fast as the machine's decode_ and prefill_macs_per_s.
typedef struct stk_plan_mix {
    uint32_t count;
    uint32_t kernel[STK_PLAN_MIX_MAX];
    double share[STK_PLAN_MIX_MAX]; // their sum is 1
} stk_plan_mix;

// A NUMA node. Speeds are what its own cores reach, or for memory without cores what others do.
typedef struct stk_plan_node {
    uint32_t core_count;     // 0: memory only
    uint64_t memory_bytes;   // that this process may use
    double read_bytes_per_s; // all its cores together
    double one_bytes_per_s;  // one thread
    // The same in short runs, as an expert's active neurons are read (docs/scheduler.md).
    double runs_bytes_per_s, one_runs_bytes_per_s;
} stk_plan_node;

typedef struct stk_plan_gpu {
    char name[STK_PLAN_NAME_BYTES];
    bool is_measured;        // its speeds; else what is usual for its kind
    bool is_integrated;      // reads the host's memory and shares its bandwidth
    bool is_software;        // the cores in disguise: what it computes they cannot
    uint64_t memory_bytes;   // that may be taken
    double read_bytes_per_s; // of its memory
    double operations_per_s; // int8 multiply-adds
    double submit_s;         // from handing work over to having its result, at least
    double link_bytes_per_s; // between host and its memory
} stk_plan_gpu;

typedef struct stk_plan_machine {
    stk_plan_node nodes[STK_PLAN_NODES_MAX];
    uint32_t node_count;
    uint32_t worker_max;             // cores, or fewer where a CPU quota allows fewer
    uint64_t memory_available_bytes; // without pushing others out, cgroup included; 0: not known
    uint64_t memory_hard_bytes;      // nobody gets more: cgroup limit or all there is; 0: none
    double decode_macs_per_s; // of one core: int8 multiply-adds, one row at a time, from its caches
    double prefill_macs_per_s;                                // the same, many rows
    double decode_alone_macs_per_s, prefill_alone_macs_per_s; // while the others rest; 0: the same
    stk_plan_rate rates[STK_PLAN_RATES_MAX];                  // of other kinds of weights
    uint32_t rate_count;
    double barrier_s;        // for all workers to meet
    double disk_bytes_per_s; // large random reads
    double disk_latency_s;   // of one small read
    stk_plan_gpu gpus[STK_PLAN_GPUS_MAX];
    uint32_t gpu_count;
    double link_bytes_per_s, link_latency_s; // between ranks
} stk_plan_machine;

// Sizes of a model as the engine lays it out. Per layer unless said otherwise.
typedef struct stk_plan_model {
    uint32_t layer_count, width, ffn_width, expert_count, expert_used_count;
    uint32_t kv_position_bytes; // of one position
    uint32_t windowed_layers, window_tokens;
    uint64_t attention_bytes, attention_macs;  // q, k, v, output; bytes with the router
    uint64_t router_bytes;                     // of which the router's
    uint32_t attention_rows;                   // of q, k and v: how far the product can be shared
    uint64_t attend_macs;                      // of one query row and one position
    uint64_t gate_bytes, up_bytes, down_bytes; // of one expert, all neurons
    double active_fraction;                    // of neurons when decoding
    uint64_t
        down_always_bytes;     // of down_bytes, whichever neurons are active; all: it computes them
    bool up_skips, down_skips; // inactive neurons of many rows, too
    stk_plan_mix attention_mix, gate_mix, up_mix, down_mix, head_mix;
    uint64_t head_bytes, head_macs;  // of the model
    uint64_t slot_bytes, read_bytes; // of one expert: in memory; read from disk
    uint32_t slots_min;
    uint64_t pack_bytes; // of those read: are laid out anew, by the thread that reads
    bool starts_empty;   // no record says which experts to load before the first prompt

    // Memory of the model.
    uint64_t program_bytes;
    uint64_t dense_bytes, dense_limited_bytes; // all but experts; when memory is short
    uint64_t staging_bytes;                    // when memory is short
    uint64_t session_bytes; // KV cache of the whole context, and what depends on neither of
    uint64_t session_row_bytes, session_worker_bytes; // these: of a batch's row, of a worker
    uint64_t session_least_bytes; // of a session that decodes, without its KV cache and workers
    uint32_t context_tokens;

    // Share of the missing experts whose reads were started by a guess of at most 1.. layers ahead,
    // and experts read for nothing meanwhile, as a share of those missing.
    double guess_recall[STK_PLAN_GUESS_MAX + 1], guess_waste[STK_PLAN_GUESS_MAX + 1];
    stk_skew skew;         // which experts are used how much
    uint32_t usage_tokens; // that this was recorded over; 0: assumed
} stk_plan_model;

// What is given; STK_PLAN_OPEN leaves it to the plan.
#define STK_PLAN_OPEN UINT32_MAX
typedef struct stk_plan_wishes {
    uint64_t memory_bytes;                                           // 0: open
    uint32_t worker_count, batch_rows, guess_layers, reads_inflight; // or STK_PLAN_OPEN
    uint32_t gpu_count;                 // of the machine's GPUs, the first may be used; 0: CPU only
    uint64_t gpu_memory_bytes;          // cap on each; 0: none
    uint32_t gpu_percent;               // of the experts, as far as they fit; or STK_PLAN_OPEN
    uint32_t gpu_layers;                // whose attention the first computes; or STK_PLAN_OPEN
    uint32_t gpu_head;                  // whether it computes the head; open: with all layers
    uint32_t rank_count;                // equal machines that share the layers; 0 or 1: this one
    uint32_t prompt_tokens, new_tokens; // the work to be quick at; 0: 512 and 256
} stk_plan_wishes;

typedef enum stk_limit_kind {
    STK_LIMIT_BANDWIDTH, // of host memory
    STK_LIMIT_COMPUTE,
    STK_LIMIT_BARRIERS, // fixed costs of many short phases
    STK_LIMIT_DISK,
    STK_LIMIT_GPU,
    STK_LIMIT_LINK,
    STK_LIMIT_KIND_COUNT
} stk_limit_kind;

typedef enum stk_stage {
    STK_STAGE_PROJECT, // router, q, k, v and output projections
    STK_STAGE_ATTEND,
    STK_STAGE_GATE,
    STK_STAGE_UP,
    STK_STAGE_DOWN,
    STK_STAGE_ROWS, // norms, quantising, rotation, sums, and their barriers
    STK_STAGE_HEAD,
    STK_STAGE_DISK, // what waiting for experts adds
    STK_STAGE_HOP,  // to the next rank
    STK_STAGE_COUNT
} stk_stage;

const char *stk_limit_kind_name(stk_limit_kind kind); // "memory bandwidth", "disk"... never NULL
const char *stk_stage_name(stk_stage stage);          // "projections", "gate"... never NULL

// One stage of one forward pass, over all layers.
typedef struct stk_plan_stage {
    double bytes, macs; // on the CPU
    double seconds;     // of both over their speeds, which overlap, and fixed costs
    stk_limit_kind limit;
} stk_plan_stage;

typedef struct stk_plan_cost {
    stk_plan_stage stages[STK_STAGE_COUNT];
    uint32_t rows;  // of this forward pass
    double seconds; // of all stages
    double tokens_per_s;
    double hit_rate;      // experts found in memory
    double disk_bytes;    // read in this pass
    stk_limit_kind limit; // the kind that most of the time goes to
} stk_plan_cost;

// What is chosen. The cost model looks at these alone.
typedef struct stk_plan_choices {
    uint32_t worker_count, batch_rows, guess_layers, reads_inflight;
    uint32_t rank_count; // machines that share the layers
    uint32_t slots;      // experts in the host memory of each, at least
    // Memory that the session does not use yet holds experts, too: in the middle of the prompt and
    // of the new tokens.
    uint32_t prompt_slots, decode_slots;
    uint32_t gpu_experts[STK_PLAN_GPUS_MAX]; // experts on each, the most used first
    uint32_t gpu_layers, gpu_head; // last layers whose attention the first GPU has; 1: the head
} stk_plan_choices;

typedef struct stk_plan_range {
    uint32_t first, count; // layers
} stk_plan_range;

typedef struct stk_plan {
    stk_plan_choices choices;
    uint64_t memory_limit_bytes; // in force; 0: everything fits
    bool is_limit_lowered;       // below the one given, which nobody can have
    uint64_t program_bytes, dense_bytes, session_bytes, staging_bytes, cache_bytes, total_bytes;
    uint32_t experts; // of the model
    uint32_t context_tokens;
    uint32_t node_count, node_workers[STK_PLAN_NODES_MAX];
    uint64_t node_cache_bytes[STK_PLAN_NODES_MAX];
    uint32_t gpu_count;
    uint64_t gpu_bytes[STK_PLAN_GPUS_MAX];
    uint32_t rank_count;
    stk_plan_range ranks[STK_PLAN_RANKS_MAX];
    stk_plan_cost decode, prefill;
    stk_plan_cost first; // prefill with no expert in memory yet; as prefill when everything fits
    double seconds;      // of the whole work: prompt_tokens and new_tokens
    // How much shorter the work would be with twice of each, as a share. The largest binds.
    double gain[STK_LIMIT_KIND_COUNT], gain_memory;
    double gain_packed;   // likewise with packed experts; 0: they are, or everything fits
    uint32_t tried;       // choices looked at
    bool is_exhaustive;   // all there are
    uint64_t least_bytes; // when it does not fit: what would
} stk_plan;

// STK_NO_MEMORY: even the least does not fit, out->least_bytes says what is needed; or the process
// has none left. The rest counts for nothing then. STK_INVALID: no node, no worker, speeds or sizes
// of zero, more ranks than layers.
STK_CHECKED stk_status stk_plan_make(const stk_plan_machine *machine, const stk_plan_model *model,
                                     const stk_plan_wishes *wishes, stk_plan *out);

// The cost of one forward pass at `position`: one row, or `rows` of a prompt. `first`: a prompt's
// when no expert is in memory yet.
void stk_cost_decode(const stk_plan_machine *machine, const stk_plan_model *model,
                     const stk_plan_choices *choices, uint32_t position, stk_plan_cost *out);
void stk_cost_prefill(const stk_plan_machine *machine, const stk_plan_model *model,
                      const stk_plan_choices *choices, uint32_t rows, uint32_t position,
                      stk_plan_cost *out);

void stk_cost_first(const stk_plan_machine *machine, const stk_plan_model *model,
                    const stk_plan_choices *choices, uint32_t rows, stk_plan_cost *out);

// The cost of a prompt's passes together: `tokens` from `position` on, in batches, the head once.
// At position 0 the memory of the session is taken, which counts to the rows, and of a model that
// starts empty the first pass reads all it needs.
void stk_cost_prompt(const stk_plan_machine *machine, const stk_plan_model *model,
                     const stk_plan_choices *choices, uint32_t tokens, uint32_t position,
                     stk_plan_cost *out);

#endif
