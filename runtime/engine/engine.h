// engine/engine.h: a model in memory and the workers that run it.
//
// Owns the open GGUF, the weights in kernel layout, the kernel table and the worker team. Knows
// nothing of text, sampling or files other than the model. Sessions (engine/session.h) borrow it.
#ifndef STK_ENGINE_ENGINE_H
#define STK_ENGINE_ENGINE_H

#include "base/log.h"
#include "model/gguf.h"
#include "model/model.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct stk_plan_machine;
struct stk_session_options;

// Thread-safety: one forward pass at a time over all sessions of an engine.
typedef struct stk_engine stk_engine;

// On a card of its own: all that fit. Where GPU and CPU share their memory: none, since neither
// gains by the other's bandwidth.
#define STK_GPU_LAYERS_AUTO  UINT32_MAX
#define STK_GPU_EXPERTS_AUTO UINT32_MAX // as planned; without a plan all of them

// On a card of its own: as many as make a layer faster, by what was measured.
#define STK_GPU_STAGING_AUTO UINT32_MAX

typedef enum stk_gpu_head {
    STK_GPU_HEAD_AUTO, // with the attention of all layers
    STK_GPU_HEAD_OFF,
    STK_GPU_HEAD_ON,
} stk_gpu_head;

typedef struct stk_engine_options {
    const char *model_path; // a GGUF file, or any split of a set
    const stk_log *log;     // borrowed, must outlive the engine; NULL: silent
    uint32_t thread_count;  // workers, the caller's thread included; 0: as planned, else one per
                            // usable core, or fewer where a CPU quota allows fewer
    uint32_t node_count;    // memory nodes to keep apart, as in stk_nodes_options; 0: the machine's
    uint32_t steal_percent; // of expert work that idle nodes may take over; at most 100
    const char *cpu_mask;   // widest kernels allowed, "scalar", "avx2", "avx512"...; NULL: all
    const atomic_int *cancel; // loading ends with STK_CANCELLED once non-zero; NULL: never

    // Memory. The limit covers everything this process makes resident; 0: what the system has.
    uint64_t memory_bytes;
    const struct stk_session_options *planned_session; // counted in the plan; NULL: defaults
    const char *sidecar_path;    // packed experts; NULL: MODEL.stoker if there is one
    bool ignores_sidecar;        // read the GGUF even where there is a sidecar
    const char *cache_policy;    // NULL: the default of store/policies.def
    uint32_t io;                 // stk_io_kind: how experts are read
    bool buffered_reads;         // let expert reads go through the page cache
    uint32_t reads_inflight_max; // 0: the store's default
    const char *usage_path;      // NULL: beside the model, MODEL.stoker-usage
    bool ignores_usage;          // do not warm the cache by earlier runs, nor record this one
    uint32_t guess_layers;       // layers ahead whose experts are guessed; UINT32_MAX: as planned

    // What is left open above, and the batch of planned_session, is chosen for this machine
    // (scheduler/plan.h); NULL: fixed defaults. Not with a cluster, whose ranks measure themselves.
    const struct stk_plan_machine *machine;

    // The layers this engine has, [layer_first, layer_end) of the file; 0, 0: all. Others are
    // somebody else's: stk_session_hidden hands over between them.
    uint32_t layer_first, layer_end;

    // Ranks that share the layers (engine/pipeline.h); then the range above is not used.
    struct stk_cluster *cluster; // borrowed, must outlive the engine; NULL: this process is alone
    const char *split;           // layers of each rank, "20,12"; NULL: the fastest that fits
    uint32_t hop;                // stk_hop: how the residual stream travels

    // A GPU that computes a share of the experts, which never changes a token, and attention and
    // head, which rounds differently there.
    const char *device;           // "cpu" or NULL, "vulkan", "vulkan:NAME", "auto"
    uint32_t gpu_experts_percent; // of each layer's experts, as far as they fit, or ..._AUTO
    uint32_t gpu_layers;          // last layers whose attention it computes; STK_GPU_LAYERS_AUTO
    uint32_t gpu_head;            // stk_gpu_head: whether it computes the head
    uint32_t gpu_staging;         // experts of a layer that are copied to it when they are chosen;
                                  // STK_GPU_STAGING_AUTO
    uint64_t gpu_memory_bytes;    // cap on its memory; 0: none but the next
    uint32_t gpu_memory_percent;  // of what the driver offers this process; 0: 90
    bool gpu_copies;              // tests: copy weights even where host memory serves in place
    bool gpu_separate;            // tests: the residual comes back from it after every layer
    bool gpu_validates;           // tests: under the validation layer
    bool gpu_churns;              // tests: experts come and go with every token
    const struct stk_vk_faults *gpu_faults; // tests; NULL: none
    const char *shader_cache_path;          // compiled shaders are kept there; NULL: nowhere
} stk_engine_options;

// Reads, checks and loads a model. *out is written only on STK_OK; the caller closes it.
// Statuses: those of stk_gguf_open and stk_model_load, STK_NO_MEMORY, STK_INVALID (options).
STK_CHECKED stk_status stk_engine_open(const stk_engine_options *options, stk_engine **out);
// Closes *engine (every session must be closed first) and sets it to NULL; NULL is allowed.
void stk_engine_close(stk_engine **engine);

// What the memory went to, as planned before anything was loaded.
typedef struct stk_memory_plan {
    uint64_t limit_bytes;         // 0: none
    uint64_t program_bytes;       // code, tables and vocabulary, estimated
    uint64_t weights_bytes;       // attention, norms, routers, head
    uint64_t session_bytes;       // KV cache and scratch
    uint64_t session_least_bytes; // of which are used from the beginning
    uint64_t staging_bytes;       // reads on their way
    uint64_t device_bytes;        // a GPU's that shares the memory, but for a session's
    uint64_t cache_bytes;         // slots of experts
    uint64_t total_bytes;
    uint64_t shared_bytes;    // slots and sessions together: what these do not use, those get
    uint32_t slots, experts;  // experts that fit, and all of them
    uint32_t slots_max;       // that fit while sessions use the least
    uint32_t context_tokens;  // of the planned session
    uint32_t batch_rows;      // likewise, unless its options say
    bool embedding_on_demand; // its rows are read from the file, one per token
    bool reads_direct;        // there is no room for the file in the page cache beside all this
} stk_memory_plan;
// Over ranks: seconds expected for a decoded token; 0: not known.
typedef struct stk_engine_prediction {
    double token_s;   // alone under way, its token coming back
    double slowest_s; // of many under way: the slowest rank's share
    double logits_s;  // more of the first, where all logits come back
} stk_engine_prediction;
stk_engine_prediction stk_engine_predicted(const stk_engine *engine);

const stk_memory_plan *stk_engine_memory(const stk_engine *engine);

struct stk_plan;
struct stk_plan_model;
// The plan that fills what the options leave open, without loading a model: options->machine is
// required. *model receives the sizes that were planned with. STK_NO_MEMORY: it cannot fit, said
// with numbers; else as stk_engine_open.
STK_CHECKED stk_status stk_engine_plan(const stk_engine_options *options, struct stk_plan *plan,
                                       struct stk_plan_model *model);
// The plan and the sizes an engine was opened with; NULL without options->machine. Borrowed.
const struct stk_plan *stk_engine_planned(const stk_engine *engine);
const struct stk_plan_model *stk_engine_plan_model(const stk_engine *engine);
struct stk_expert_store *stk_engine_store(stk_engine *engine);    // for its statistics
const struct stk_team *stk_engine_team(const stk_engine *engine); // for its nodes

// What a GPU computes now: experts, layers' attention, the head.
uint32_t stk_engine_gpu_experts(const stk_engine *engine);
uint64_t stk_engine_gpu_moves(const stk_engine *engine); // experts that came in since open
uint32_t stk_engine_gpu_layers(const stk_engine *engine);
bool stk_engine_gpu_has_head(const stk_engine *engine);

const stk_model *stk_engine_model(const stk_engine *engine); // borrowed
const stk_gguf *stk_engine_gguf(const stk_engine *engine);   // borrowed; metadata only
uint32_t stk_engine_thread_count(const stk_engine *engine);
uint32_t stk_engine_node_count(const stk_engine *engine);   // memory nodes kept apart
const char *stk_engine_kernels(const stk_engine *engine);   // "avx512", for logs and reports
uint64_t stk_engine_weight_bytes(const stk_engine *engine); // resident weights

#endif
