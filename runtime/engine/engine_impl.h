// engine/engine_impl.h: what the files of this room share. Not for other rooms.
#ifndef STK_ENGINE_ENGINE_IMPL_H
#define STK_ENGINE_ENGINE_IMPL_H

#include "base/team.h"
#include "cpu/cpu.h"
#include "engine/chain_gpu.h"
#include "engine/dense_gpu.h"
#include "engine/engine.h"
#include "engine/experts_gpu.h"
#include "engine/gpu_device.h"
#include "engine/heat.h"
#include "engine/meter.h"
#include "engine/session.h"
#include "engine/weights.h"
#include "scheduler/plan.h"
#include "store/expert_store.h"
#include "store/model_file.h"
#include "store/pressure.h"

// Kernels for a layer's experts, which may be of other types than the next layer's.
typedef struct stk_expert_kernels {
    stk_matmul_fn gate;
    stk_gather_fn up;
    stk_down_fn down;
    stk_gate_fn gate_ahead;     // or NULL: requests are made beside `gate`
    stk_matmul_fn up_rows;      // or NULL: `up` skips inactive neurons for many rows, too
    stk_down_rows_fn down_rows; // or NULL
} stk_expert_kernels;

struct stk_engine {
    const stk_log *log;
    struct stk_cluster *cluster;   // NULL: alone
    struct stk_pipeline *pipeline; // NULL: alone
    stk_engine_prediction prediction;
    uint32_t gpu_percent_max; // of experts: over ranks as many as end with the cores
    stk_gguf *gguf;
    stk_model model;
    stk_cpu cpu;
    stk_team *team;
    stk_weights weights;
    stk_expert_store *store;
    stk_gpu_device *device;             // NULL: the CPU does everything
    stk_gpu *gpu;                       // NULL: the CPU computes every expert
    stk_heat *heat;                     // NULL: nobody needs it
    char *usage_path;                   // NULL: usage is neither read nor written
    stk_gpu_share share;                // what else the device takes over
    stk_vk_dense *dense;                // its weights; NULL: nothing else
    stk_expert_kernels *expert_kernels; // [layer_count]
    uint32_t guess_layers;              // how many layers ahead experts are guessed; 0: none
    stk_model_file *embedding_file;     // rows are read on demand; NULL: in weights
    uint32_t steal_percent;             // of expert tasks, by other nodes' workers
    stk_memory_plan memory;
    bool is_planning; // for options->machine, which may be another one
    bool is_planned;  // the next three count
    stk_plan plan;
    stk_plan_model plan_model;
    uint32_t workers_assumed; // while sizes are taken for a plan; 0: the team's
    uint64_t sessions_bytes;  // of memory.shared_bytes, what sessions use now
    uint32_t slots_lent;      // what that leaves; 0: not said yet
    stk_pressure_governor pressure;
    uint64_t pressure_read_ns; // when it was last looked at
};

// Rows of activations with their Q8 form.
typedef struct stk_acts {
    uint32_t n;
    float *x;      // [rows][n]
    int8_t *q;     // [rows][n]
    float *d;      // [rows][n/32]
    int32_t *sum;  // [rows][n/32]
    stk_act *rows; // [rows], pointing into the above
} stk_acts;

// Keys and values of one layer, a ring over positions. What lies together are the positions of a
// segment, [STK_SEGMENT_TOKENS][head_dim], and some segments of a head, a run; session_kv.c says
// where a run begins. Strides are in values.
typedef struct stk_kv_layer {
    uint32_t capacity_tokens; // a multiple of STK_SEGMENT_TOKENS
    uint16_t *k, *v;
    size_t sequence_stride, segment_stride;
    uint32_t heads_before, heads_together; // runs of the layers before, and of all
    bool runs_grow;                        // else a run is everything
} stk_kv_layer;

typedef struct stk_pages {
    void *start;
    uint64_t bytes;
} stk_pages;

// What one worker needs to itself.
typedef struct stk_expert_scratch {
    float *gate;        // [tile][ffn]
    float *h;           // [ffn]
    float *up;          // [tile][ffn]; of one row, of the active neurons in order
    int8_t *q;          // [tile][ffn]
    float *d;           // [tile][ffn/32]
    int32_t *sum;       // [tile][ffn/32]
    stk_act *inner;     // [tile], pointing into up, q, d and sum
    int8_t *rows_q;     // [tile][width]
    float *rows_d;      // [tile][width/32]
    int32_t *rows_sum;  // [tile][width/32]
    uint32_t *active;   // [ffn]
    uint32_t *first;    // [ffn/32 + 1]
    float *parts;       // [STK_EXPERT_PARTS][width padded]
    stk_act *acts;      // [tile]
    float *attend_o;    // [STK_ATTEND_QUERIES_MAX][head_dim]
    uint8_t *embedding; // pages for a row that is read on demand; NULL: not needed
} stk_expert_scratch;

// One expert of a layer with what it has to do in this batch.
typedef struct stk_expert_work {
    uint32_t expert;
    uint32_t node;         // that holds it
    uint32_t first, count; // its pairs: expert_pairs[first..first+count)
    uint32_t tasks;
    atomic_uint claimed, done;
} stk_expert_work;

enum {
    STK_EXPERT_TILE = 32,   // tokens an expert takes at once
    STK_DENSE_ROWS_MIN = 6, // from as many, computing inactive neurons too is faster
};

// What a forward brought: this rank's scratch, or what came back from the last rank.
typedef struct stk_answer {
    uint32_t row_count;
    const uint32_t *slot;  // [row_count]: where a row's answer is, UINT32_MAX: it asked for none
    const float *logits;   // [slots][vocab_padded]; NULL: there are none
    const int32_t *picked; // [slots]: instead of them, a token each; NULL: there are logits
} stk_answer;

struct stk_session {
    stk_engine *engine;
    uint32_t context_tokens, sequence_count, batch_rows_max, logit_rows_max, inflight_max;
    uint32_t inflight_count; // submitted and not collected
    bool full_kv;
    uint32_t *length;  // [sequence]
    uint32_t *highest; // [sequence]: longest it has been, which tells what rings still hold
    uint32_t *touched; // [sequence]: positions whose KV memory counts as used
    stk_kv_layer *kv;  // [layer]
    uint64_t kv_bytes; // wherever they are
    stk_pages kv_pages, kv_again; // the second after a device was lost

    // What a device keeps of this session (engine/dense_gpu.h).
    stk_vk_stream *stream; // NULL: the CPU computes all of it
    bool uses_stream;      // during a forward, which does not change its mind
    stk_vk_batch_row *stream_rows;
    stk_vk_attended stream_output;
    uint64_t stream_begin_ns; // of the layer under way, for the trace
    stk_vk_chain *chain;      // NULL: every layer comes back to the host
    bool uses_chain;          // as uses_stream
    uint32_t *chain_end;      // [layer]: where a run that begins there ends (engine/chain_gpu.h)
    int32_t *tokens;          // [sequence][context]: to compute lost keys and values again

    // The batch of the forward in progress.
    const stk_row *rows;
    uint32_t row_count;
    uint32_t logit_count;
    uint32_t *logit_rows; // [batch]: row of each logits slot
    uint32_t *logit_slot; // [batch]: slot of each row, UINT32_MAX without

    // Scratch, taken at open. "padded" widths are multiples of STK_OUTPUT_PAD.
    void *scratch_pages;
    uint64_t scratch_bytes;
    uint32_t placed_rows, placed_logits; // under a limit: for how many scratch is laid out
    uint64_t used_bytes;                 // and how much of the session counts as used
    uint32_t width_padded;
    float *x;                        // [batch][width], the residual stream
    stk_act *x_acts;                 // [batch], x only, for the router
    float *rope;                     // [batch][rope_dim]: cosines, then sines
    stk_acts normed;                 // [batch], width
    stk_acts attended;               // [batch], heads * head_dim
    stk_attend_state *attend_states; // of segments, where workers share heads
    float *attend_sums;              // [attend_states_max][head_dim]
    uint32_t attend_states_max;      // 0: nobody may
    float *q, *k, *v;                // [batch][...]
    float *projected;                // [batch][width]: attention's output
    float *router_logits;            // [batch][experts padded to 16]
    uint32_t *chosen;                // [batch][used]
    float *chosen_weights;           // [batch][used]
    uint32_t *expert_first;          // [experts + 1]
    uint32_t *expert_pairs;          // [batch * used]: row * used + rank, by expert
    stk_expert_work *work;           // [experts]: those used in this layer
    uint32_t *work_ids;              // [experts]: their ids, then scratch for guesses
    float *work_weights;             // [experts]: the router's, of the first row
    uint32_t *work_rows;             // [experts]: how many rows use them
    uint32_t work_count, task_count;
    bool shares_parts; // a task is a part of an expert for one row, not an expert for many
    atomic_uint tasks_claimed;
    atomic_int steal_credit; // hundredths of tasks that may still be taken by other nodes
    stk_route_hook route_hook;
    void *route_hook_user;
    atomic_int failure;          // stk_status of the forward in progress
    uint8_t *guess_marks;        // [experts]
    float *guess_logits;         // [experts padded to 16]
    float *part_outputs;         // [STK_PAIRS_SPLIT_MAX][STK_EXPERT_PARTS][width padded]
    float *expert_outputs;       // [batch * used][width padded]
    stk_expert_scratch *workers; // [worker_count]
    float *logits;               // [logit_rows_max][vocab padded to 16]
    int32_t *picked;             // [logit_rows_max]: over ranks, where only tokens travel
    stk_answer answer;
    const struct stk_sampler *sampler; // the caller's, for tokens drawn elsewhere; or NULL
    size_t vocab_padded;
    stk_meter *meter;
    float attend_scale; // 1/sqrt(head_dim)
};

// Up to this many (row, expert) pairs the workers may share single experts part by part; above it
// whole experts are handed out and each expert is read once for all its rows.
enum { STK_PAIRS_SPLIT_MAX = 32 };

// KV cache and scratch of a session with these options, and the least that it ever uses.
// STK_INVALID: absurd sizes.
STK_CHECKED stk_status stk_session_bytes(stk_engine *engine, const stk_session_options *options,
                                         uint64_t *out, uint64_t *least);
// What it takes on the device.
STK_CHECKED stk_status stk_session_stream_bytes(stk_engine *engine,
                                                const stk_session_options *options,
                                                const stk_vk_dense_options *dense, uint64_t *out);
// session_kv.c: the KV cache. The table first, then memory for the layers that have none and are
// not on a device.
uint32_t stk_session_kv_capacity(const stk_session *s, const stk_layer *layer);
// Where keys (base kv->k) or values (kv->v) of a position are.
uint16_t *stk_session_kv_at(const stk_session *s, const stk_kv_layer *kv, uint16_t *base,
                            uint32_t sequence, uint32_t head, uint32_t position);
uint64_t stk_session_kv_layer_bytes(const stk_session *s, const stk_layer *layer);
STK_CHECKED stk_status stk_session_take_kv_table(stk_session *s);
STK_CHECKED stk_status stk_session_take_kv_pages(stk_session *s, stk_pages *pages);
// After a pass: keys and values into huge pages, where it needed pages that none before had.
void stk_session_gather_kv(const stk_session *s);
// session_run.c: one forward pass, and what a lost device makes necessary.
STK_CHECKED stk_status stk_session_run(stk_session *s, const stk_row *rows, uint32_t count);
// Under a memory limit what is not touched holds experts, so pages are counted one by one.
void *stk_session_take_pages(const stk_session *s, uint64_t bytes);
// Of them, the KV cache of layer `layer` of the file; 0: absurd sizes.
uint64_t stk_session_kv_bytes_of(stk_engine *engine, const stk_session_options *options,
                                 uint32_t layer);
// Scratch for so many rows lies at the beginning of that for more; the residual stream stays where
// it is.
uint64_t stk_session_scratch_bytes(const stk_session *s, uint32_t rows, uint32_t logit_rows);
void stk_session_place(stk_session *s, uint32_t rows, uint32_t logit_rows);

// spare.c: memory that sessions do not use yet holds experts. `lend` is called before a forward
// pass of these rows: it takes back what they need, or gives more. `forget` empties a sequence,
// `return` ends a session's use.
void stk_spare_lend(stk_session *s, const stk_row *rows, uint32_t count);
void stk_spare_forget(stk_session *s, uint32_t sequence);
void stk_spare_return(stk_session *s);
// What the process has besides weights, experts and sessions; and what the system can give it.
uint64_t stk_memory_plan_program_bytes(const stk_engine *engine);
uint64_t stk_memory_plan_available_bytes(const stk_engine *engine);
// What a message names as the least, which has to work in the next start of the program too.
uint64_t stk_memory_plan_named_mib(uint64_t least_bytes);
// Fills engine->memory. STK_NO_MEMORY: it cannot fit; a table of what is needed was logged.
STK_CHECKED stk_status stk_memory_plan_make(stk_engine *engine, const stk_engine_options *options);

// The first half of opening: the model's description, the team, and the plan where options->machine
// is given. Whatever happens, stk_engine_close cleans up.
STK_CHECKED stk_status stk_engine_prepare(stk_engine *engine, const stk_engine_options *options);

// Fills plan and plan_model from options->machine and the model; needs a team. STK_NO_MEMORY: as
// above.
// *options with what they leave to the plan filled in: what the GPU computes.
stk_engine_options stk_engine_options_planned(const stk_engine *engine,
                                              const stk_engine_options *options);
STK_CHECKED stk_status stk_engine_make_plan(stk_engine *engine, const stk_engine_options *options);

// One layer's phases, each called by every worker between barriers.
void stk_forward_worker(stk_worker *worker, void *session);
void stk_route_row(stk_session *s, uint32_t layer, uint32_t row);
void stk_experts_announce(stk_session *s, uint32_t layer);
void stk_experts_note(stk_session *s, uint32_t layer); // what was chosen, for who counts or listens
void stk_attention_prepare_row(stk_session *s, uint32_t layer, uint32_t row);
void stk_attention_place(stk_session *s); // once for what has been taken
// Ends its phases itself, as there may be one or two.
void stk_attention_worker(stk_session *s, stk_worker *worker, uint32_t layer);
// How many states of a head and a segment can be kept at once, for one row at least.
uint32_t stk_attention_states(const stk_session *s);
// Values [from, from + count) of a row, both multiples of 32.
void stk_acts_quantize(const stk_session *s, stk_acts *acts, uint32_t row, uint32_t from,
                       uint32_t count);
void stk_experts_worker(stk_session *s, stk_worker *worker, uint32_t layer);
void stk_experts_guess(stk_session *s, uint32_t layer);
void stk_experts_finish(stk_session *s, uint32_t layer);
void stk_choose_experts(const float *logits, uint32_t count, uint32_t used, uint32_t *chosen);
// weights[used] of those chosen; their sum is 1.
void stk_weigh_experts(const float *logits, const uint32_t *chosen, uint32_t used,
                       stk_gating gating, float *weights);
void stk_group_pairs(stk_session *s);
void stk_experts_combine_row(stk_session *s, uint32_t row);

#endif
