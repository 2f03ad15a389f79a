// cli/bench.h: what the files of `stoker bench` share.
//
// The figures of one run and where they were taken; the measuring (bench_measure.c) fills them,
// the writers (bench_table.c, bench_json.c, bench_html.c) only read them.
#ifndef STK_CLI_BENCH_H
#define STK_CLI_BENCH_H

#include "base/log.h"
#include "base/nodes.h"
#include "cli/bench_ranks.h"
#include "cli/text_model.h"
#include "engine/draft.h"
#include "engine/metrics.h"
#include <sched.h>
#include <stdio.h>

enum { STK_BENCH_REPS_MAX = 64, STK_BENCH_LIST_MAX = 16, STK_BENCH_DRAFT_PROMPT_MIN = 64 };
enum { STK_BENCH_SEQUENCES_MAX = 256 };

typedef struct stk_bench_samples {
    double values[2 * STK_BENCH_REPS_MAX];
    uint32_t count;
} stk_bench_samples;

void stk_bench_samples_add(stk_bench_samples *samples, double value); // drops what is too much
double stk_bench_samples_median(const stk_bench_samples *samples);    // 0 when empty
double stk_bench_samples_min(const stk_bench_samples *samples);
double stk_bench_samples_max(const stk_bench_samples *samples);

// Bytes/s of streaming reads: of all threads, and of each memory node by its own threads while the
// others read theirs.
typedef struct stk_bench_bandwidths {
    stk_bench_samples all, nodes[STK_NODES_MAX];
    uint32_t node_count;
} stk_bench_bandwidths;

typedef struct stk_bench_machine {
    char cpu[128], date[32]; // UTC, ISO 8601
    const char *commit, *version;
    uint32_t cores, threads;          // that this process may use
    cpu_set_t cpus;                   // these threads
    uint64_t memory_bytes, llc_bytes; // 0: unknown
    double load_average;              // of the last minute, at the start
} stk_bench_machine;

void stk_bench_machine_read(stk_bench_machine *machine);
// Memory that can be taken without reaching a limit: of the system and of the control group.
uint64_t stk_bench_available_bytes(void);
uint64_t stk_bench_peak_rss_bytes(void); // VmHWM
void stk_bench_peak_rss_reset(void);     // to the present size, where the system allows it

// CPU time since the system's start: of everybody on the machine's `cpus`, and of this process.
typedef struct stk_bench_cpu_times {
    bool is_known; // else all_s is not
    double all_s, own_s, at_s;
} stk_bench_cpu_times;

// What others used of them between pairs of such times.
typedef struct stk_bench_others {
    bool is_known;
    double seconds, elapsed_s;
    uint32_t ticks; // of the system's clock by which seconds may be off, per CPU
} stk_bench_others;

stk_bench_cpu_times stk_bench_cpu_times_now(const stk_bench_machine *machine);
void stk_bench_others_add(stk_bench_others *others, const stk_bench_cpu_times *from,
                          const stk_bench_cpu_times *to);
// Of all the time of so many CPUs, what is certain; 0 if nothing is.
double stk_bench_others_fraction(const stk_bench_others *others, uint32_t cpus);
// Ticks that these CPUs were not idle, stolen ones included, from the lines of /proc/stat. Returns
// whether there was one of them.
bool stk_bench_cpu_busy(FILE *stat, const cpu_set_t *cpus, uint64_t *ticks);

typedef struct stk_bench_layer {
    double active_fraction;         // of the chosen experts' neurons
    double busy_s[STK_PHASE_COUNT]; // per forward, worker 0; of a separate, timed pass
    double wait_s[STK_PHASE_COUNT];
} stk_bench_layer;

typedef struct stk_bench_result {
    bool is_prompt; // else decode
    uint32_t tokens, depth, threads, batch_rows;
    uint32_t sequences;             // decoded at once, `tokens` each
    stk_bench_samples tokens_per_s; // of all sequences together
    double first_token_s;           // median; of a prompt: until its last row's logits
    double load_s;
    uint64_t weight_bytes, peak_rss_bytes;
    bool fits_cache; // the whole model: then memory is not what it reads
    double bytes[STK_COMPONENT_COUNT], bytes_per_token; // per token
    double gpu_bytes_per_token;                         // of which a GPU read
    double operations_per_token;
    stk_bench_bandwidths bandwidth; // before and after
    stk_bench_others others;        // while tokens_per_s was taken
    double roofline_fraction;
    double wait_fraction; // of worker 0's time, at barriers
    const char *limit;    // "bandwidth", "cache", "disk", "barriers" or "compute"
    // Experts that live on disk; without a limit everything is resident and these are 0 and 1.
    uint64_t memory_limit_bytes;
    double hit_rate, disk_bytes_per_token, stall_s_per_token; // stall: of one worker, on average
    stk_metrics_node nodes[STK_NODES_MAX];                    // of the last pass
    uint32_t node_count;
    double node_own_fraction;
    double active_fraction;
    uint32_t layer_count, expert_count, expert_used_count;
    bool is_greedy, is_sampled;
    stk_bench_ranks ranks;   // of which the first one's layers are those below
    uint64_t expert_tokens;  // tokens behind expert_use
    uint64_t *expert_use;    // [layer][expert]
    stk_bench_layer *layers; // [layer_count + 1], the last one is what is outside layers
} stk_bench_result;

// How uneven a router is.
typedef struct stk_bench_skew {
    double hottest_rate;  // mean over layers of the most used expert's share of tokens
    double rare_fraction; // experts that fire for fewer than 0.14 of the tokens
    double half_fraction; // experts, most used first, that take half of the choices
} stk_bench_skew;

stk_bench_skew stk_bench_skew_of(const stk_bench_result *result);
// Rates of a layer's experts, largest first, to rates[expert_count].
void stk_bench_rates(const stk_bench_result *result, uint32_t layer, double *rates);

typedef struct stk_bench_peer {
    const char *command; // NULL: nothing was compared
    bool is_prompt;
    uint32_t tokens, depth, threads;
    stk_bench_samples ours, theirs; // tokens/s, taken alternately
} stk_bench_peer;

// The same text written with and without a draft, in turns.
typedef struct stk_bench_draft {
    stk_draft_options options;      // tokens_max 0: not measured
    uint32_t tokens, prompt_tokens; // generated, and the text they follow
    uint32_t threads;
    uint32_t passes, drafted_tokens, accepted_tokens; // of one text
    stk_bench_samples plain, drafted;                 // tokens/s
} stk_bench_draft;

typedef struct stk_bench_report {
    stk_bench_machine machine;
    const char *model_file;
    char model_name[128];
    char kernels[16];
    stk_bench_result *results;
    uint32_t count, capacity;
    stk_bench_peer peer;
    stk_bench_draft draft;
} stk_bench_report;

void stk_bench_report_free(stk_bench_report *report);
// Whether something else ran: it used a twentieth of the CPUs' time while speeds were taken (where
// the system does not tell, the load at the start was high), or bandwidths differ by a quarter.
bool stk_bench_is_noisy(const stk_bench_report *report, const stk_bench_result *result);

// Writers. A failed write shows in ferror(to); json returns false without memory.
void stk_bench_write_table(const stk_bench_report *report, FILE *to);
void stk_bench_write_csv(const stk_bench_report *report, FILE *to);
bool stk_bench_write_json(const stk_bench_report *report, FILE *to);
void stk_bench_write_html(const stk_bench_report *report, FILE *to);

// Reads `bytes` of memory with `threads` threads, `passes` times, and adds the samples of each.
// node_count as in stk_nodes_options: every thread reads its own node's share. STK_NO_MEMORY. Takes
// and returns the memory.
STK_CHECKED stk_status stk_bench_bandwidth(uint32_t threads, uint32_t node_count, uint64_t bytes,
                                           uint32_t passes, const stk_log *log,
                                           stk_bench_bandwidths *out);
// Adds the samples of `from` to *to.
void stk_bench_bandwidths_merge(stk_bench_bandwidths *to, const stk_bench_bandwidths *from);
// The size to read: larger than the last-level cache, as far as memory allows.
uint64_t stk_bench_bandwidth_bytes(const stk_bench_machine *machine);

extern const char *const stk_bench_passage[]; // paragraphs, NULL-terminated

// One engine with a session and text to feed it.
typedef struct stk_bench_run {
    const stk_log *log;
    const stk_bench_machine *machine;
    stk_text_model model;
    stk_session *session;
    const int32_t *ids; // borrowed; id_count of them, used cyclically
    uint32_t id_count, reps, threads;
    uint32_t warmup; // tokens to decode before decoding is timed; 0: a few
    uint32_t offset; // where in the text the next pass begins
    uint32_t sequences;
    bool is_greedy;              // rows ask only for their best token
    struct stk_sampler *sampler; // NULL: rows are not drawn
    double load_s;
    uint64_t load_peak_bytes, bandwidth_bytes;
    stk_bench_bandwidths bandwidth; // taken after the last point, which is before the next
} stk_bench_run;

// Measures one point: fills *result, whose arrays the caller frees even on failure.
// STK_CANCELLED: Ctrl-C. Otherwise as stk_session_forward.
STK_CHECKED stk_status stk_bench_measure(stk_bench_run *run, bool is_prompt, uint32_t tokens,
                                         uint32_t depth, stk_bench_result *result);
// The same `tokens` once, for alternating with another program.
STK_CHECKED stk_status stk_bench_once(stk_bench_run *run, bool is_prompt, uint32_t tokens,
                                      uint32_t depth, double *tokens_per_s);
// Fills draft's figures; its options and tokens are given. Greedy, after `depth` tokens of the text
// (64 at least), which the session must have room for.
STK_CHECKED stk_status stk_bench_measure_draft(stk_bench_run *run, uint32_t depth,
                                               stk_bench_draft *draft);
// Decodes one token at `depth` with timing and writes the spans of every worker as trace events.
STK_CHECKED stk_status stk_bench_trace(stk_bench_run *run, uint32_t depth, const char *path);

// Runs a shell command and finds the tokens/s it prints. STK_IO: it could not be run or failed;
// STK_FORMAT: it printed no speed. Both logged.
STK_CHECKED stk_status stk_bench_command(const char *command, bool is_prompt, const stk_log *log,
                                         double *tokens_per_s);
// The last speed in text: "31.2 tok/s", "31.2 tokens/s", "31.2 t/s", "31.2 tokens per second", or
// a row of llama-bench's table whose test is tg... (prompt: pp...). Returns whether there is one.
bool stk_bench_find_speed(const char *text, bool is_prompt, double *tokens_per_s);

#endif
