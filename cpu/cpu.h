// cpu/cpu.h: the kernels of this machine, chosen at run time.
//
// docs/arithmetic.md says what each computes; cpu/ref is that text as code; the others equal it
// bit for bit. Knows nothing of layers or threads: every function here is called by one worker on
// its share, touches only its arguments and never allocates.
#ifndef STK_CPU_CPU_H
#define STK_CPU_CPU_H

#include "base/log.h"
#include "cpu/ahead.h"
#include "model/matrix.h"
#include <stddef.h>
#include <stdint.h>

// Instruction sets a kernel may need. The order is the order of preference.
typedef enum stk_isa {
    STK_ISA_REF = 0,          // portable C, always there
    STK_ISA_F32 = 1 << 0,     // test-only reference that does not quantise activations
    STK_ISA_AVX2 = 1 << 1,    // AVX2, FMA, F16C
    STK_ISA_AVXVNNI = 1 << 2, // AVX-VNNI (and all of AVX2's)
    STK_ISA_AVX512 = 1 << 3,  // AVX-512 F, BW, VL, DQ, VNNI (and all of AVX2's)
    STK_ISA_NEON = 1 << 4,    // AArch64 with the dot-product extension
    STK_ISA_AMX = 1 << 5,     // AMX int8 tiles (and all of AVX512's)
} stk_isa;

enum {
    STK_SEGMENT_TOKENS = 256, // attention is computed and merged in segments of this many
    STK_EXPERT_PARTS = 4,     // an expert's neurons are summed in this many parts
    STK_HEAD_DIM_MAX = 512,
    STK_ATTEND_QUERIES_MAX = 32, // that share one pass over keys and values
    STK_OUTPUT_PAD = 128,        // outputs of down are written in multiples of this many floats
    STK_ROW_PAD = 16,            // outputs of matmul likewise
};

// One row of activations: the floats and their Q8 form (arithmetic.md, section 1). Borrowed.
typedef struct stk_act {
    const float *x;     // [n], 64-byte aligned
    const int8_t *q;    // [n], 64-byte aligned
    const float *d;     // [n/32]
    const int32_t *sum; // [n/32]
} stk_act;

// An expert's inner vector for one token. Groups are of 32 neurons.
typedef struct stk_neurons {
    const float *h;         // [ffn], +0 where inactive
    const int8_t *q;        // [ffn], quantised by group
    const float *d;         // [ffn/32]
    const int32_t *sum;     // [ffn/32]
    const uint32_t *active; // ids of the active neurons, rising
    const uint32_t *first;  // [ffn/32 + 1]: group g's are active[first[g]..first[g+1])
} stk_neurons;

// x[n] -> q[n], d[n/32], sum[n/32]; n is a multiple of 32. Section 1.
typedef void (*stk_quantize_fn)(const float *x, uint32_t n, int8_t *q, float *d, int32_t *sum);

// y[t*y_stride + r - row_begin] = row r of w . acts[t], for r in [row_begin, row_end) and
// t < count. row_begin is a multiple of 16; for X16 each y row has room for a multiple of 16.
// Sections 2 and 3.
typedef void (*stk_matmul_fn)(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                              const stk_act *acts, uint32_t count, float *y, size_t y_stride);

// y[r - row_begin] = row r of w . act, rows as for stk_matmul_fn. Meanwhile all that `ahead` lists
// is asked for, spread over the rows.
typedef void (*stk_gate_fn)(const stk_matrix *w, uint32_t row_begin, uint32_t row_end,
                            const stk_act *act, stk_ahead *ahead, float *y);

// y[i] = row rows[i] of w . act, i < count. Sections 2 and 3.
typedef void (*stk_gather_fn)(const stk_matrix *w, const uint32_t *rows, uint32_t count,
                              const stk_act *act, float *y);

// Adds groups [group_begin, group_end) to one part's accumulators y[outputs], which the caller
// cleared; y has room for a multiple of 128. Section 4.
typedef void (*stk_down_fn)(const stk_matrix *down, const stk_neurons *neurons,
                            uint32_t group_begin, uint32_t group_end, float *y);

// y[t][outputs] = the whole down product (every part, and their tree) of h[t] over an expert's
// neurons, +0 where inactive, t < count. y[t] has room for a multiple of 128. Returns 0, having
// done nothing, if so many tokens or tokens that lie so are not worth it. Section 4.
typedef int (*stk_down_rows_fn)(const stk_matrix *down, const stk_act *h, uint32_t count,
                                float *const *y);

// y[n] = rmsnorm(x[n]) * weight[n]; y may be x. Section 6.
typedef void (*stk_rmsnorm_fn)(const float *x, const float *weight, float eps, uint32_t n,
                               float *y);

// State of attention for one query head: o[head_dim], the largest score and the sum.
typedef struct stk_attend_state {
    float *o;
    float m;
    float l;
} stk_attend_state;

// A query head of one row and the positions [begin, end) of a segment it may see, begin < end <=
// STK_SEGMENT_TOKENS. `state` is the result; its o[head_dim], 64-byte aligned, is the caller's.
typedef struct stk_attend_query {
    const float *q; // [head_dim], 64-byte aligned
    uint32_t begin, end;
    stk_attend_state state;
} stk_attend_query;

// A segment of a KV head: halves [position][head_dim] from its start. Borrowed.
typedef struct stk_attend_segment {
    const uint16_t *k, *v;
    const uint16_t *next_k; // keys that will be read next, to be asked for ahead; NULL: not known
} stk_attend_segment;

// One segment for queries[count], count <= STK_ATTEND_QUERIES_MAX. Overwrites the states. head_dim
// is a multiple of 16, at most STK_HEAD_DIM_MAX. Section 6.
typedef void (*stk_attend_fn)(stk_attend_query *queries, uint32_t count, uint32_t head_dim,
                              const stk_attend_segment *segment, float scale);
// Merges a later segment's state into `into`.
typedef void (*stk_attend_merge_fn)(stk_attend_state *into, const stk_attend_state *segment,
                                    uint32_t head_dim);

// y[i] = half(x[i]), to nearest even.
typedef void (*stk_to_half_fn)(const float *x, uint32_t n, uint16_t *y);

// x[i] += sum over k of weights[k]*y[k][i], summed in order first. Section 5.
typedef void (*stk_combine_fn)(float *x, const float *const *y, const float *weights,
                               uint32_t count, uint32_t n);

// out[i] = (p[0][i]+p[2][i]) + (p[1][i]+p[3][i]) over an expert's parts p = parts + j*stride.
typedef void (*stk_sum_parts_fn)(const float *parts, size_t stride, uint32_t n, float *out);

// Thread-safety: immutable after init.
typedef struct stk_cpu {
    uint32_t isas;    // stk_isa bits in use
    const char *name; // widest of them: "amx", "avx512", "avxvnni", "avx2", "neon", "scalar", "f32"
    stk_quantize_fn quantize;
    stk_rmsnorm_fn rmsnorm;
    stk_attend_fn attend;
    stk_attend_merge_fn attend_merge;
    stk_to_half_fn to_half;
    stk_combine_fn combine;
    stk_sum_parts_fn sum_parts;
} stk_cpu;

// Fills *out with the best kernels this machine has. mask: NULL for all, or the widest set allowed:
// "scalar", "avx2", "avxvnni", "avx512", "amx", "neon", or "f32" (tests). STK_INVALID: no such
// name, or not here.
STK_CHECKED stk_status stk_cpu_init(const char *mask, const stk_log *log, stk_cpu *out);

// The masks of stk_cpu_init that this machine has, widest first: the first one's kernels are what a
// NULL mask gives. NULL past the end.
const char *stk_cpu_mask_at(size_t index);

// Kernels for a matrix, looked up once when it is loaded; never NULL unless they say so.
stk_matmul_fn stk_cpu_matmul(const stk_cpu *cpu, stk_format format, const stk_type *type);
stk_gate_fn stk_cpu_gate(const stk_cpu *cpu, stk_format format, const stk_type *type); // or NULL
stk_gather_fn stk_cpu_gather(const stk_cpu *cpu, stk_format format, const stk_type *type);
stk_down_fn stk_cpu_down(const stk_cpu *cpu, stk_format format, const stk_type *type);

// Kernels that compute an expert's inactive neurons too; NULL where there is none. For prompts, but
// those of STK_FORMAT_ROWS, whose `down` cannot skip neurons, for any number of tokens.
stk_matmul_fn stk_cpu_up_rows(const stk_cpu *cpu, stk_format format, const stk_type *type);
stk_down_rows_fn stk_cpu_down_rows(const stk_cpu *cpu, stk_format format, const stk_type *type);

// One line of kernels.def, for tests, benches and listings.
typedef enum stk_op {
    STK_OP_MATMUL,
    STK_OP_GATE,
    STK_OP_GATHER,
    STK_OP_DOWN,
    STK_OP_DOWN_ROWS
} stk_op;
typedef struct stk_kernel {
    stk_op op;
    stk_isa isa;
    stk_format format;
    const stk_type *type;
    const char *name;
    void (*function)(void); // cast by op
} stk_kernel;
const stk_kernel *stk_cpu_kernel_at(size_t index); // NULL past the end

#endif
