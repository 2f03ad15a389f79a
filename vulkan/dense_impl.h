// vulkan/dense_impl.h: what the files of the dense part share.
#ifndef STK_VULKAN_DENSE_IMPL_H
#define STK_VULKAN_DENSE_IMPL_H

#include "vulkan/dense.h"
#include "vulkan/impl.h"

enum {
    SEGMENT_TOKENS = 256,
    FEW_ROWS = 4, // up to so many a row's context is shared out over workgroups
    ARGMAX_RUN = 4096,
};

// A matrix on the device.
typedef struct dense_matrix {
    stk_matrix shape; // its data is the host's
    VkDeviceAddress address;
} dense_matrix;

typedef struct dense_layer {
    bool here;
    VkDeviceAddress attn_norm, ffn_norm;
    dense_matrix q, k, v, output, router; // the last without rows: none
    uint32_t window_tokens;
    bool has_rope;
} dense_layer;

struct stk_vk_dense {
    stk_vk *vk;
    stk_vk_dense_options options; // its layers are not kept
    dense_layer *layers;
    VkDeviceAddress head_norm;
    dense_matrix head;
    stk_vk_buffer import; // of options.pages; handle 0: copied
    stk_vk_buffer copies;
};

// The dispatches of a layer, in this order, whose sizes the device reads from the step.
typedef enum dispatch {
    DISPATCH_NORM,
    DISPATCH_Q,
    DISPATCH_K,
    DISPATCH_V,
    DISPATCH_ROPE,
    DISPATCH_ATTEND,
    DISPATCH_JOIN,
    DISPATCH_QUANTIZE,
    DISPATCH_OUTPUT,
    DISPATCH_ROUTER, // these only of layers in a chain
    DISPATCH_ROUTE,
    DISPATCH_INNER,
    DISPATCH_DOWN,
    DISPATCH_COMBINE,
    DISPATCH_COUNT
} dispatch;

// A block of activations, as rows.glsl describes it: offsets in bytes.
typedef struct act_block {
    uint64_t y_at, q_at, d_at, sum_at, bytes;
} act_block;

// What the host tells the device of a batch, relative to the step's start:
//   dispatches of all layers | batch | tiles | angles
typedef struct step_layout {
    uint64_t batch_at, tiles_at, angles_at, bytes;
} step_layout;

// Dispatches of a chain's layer but the router's, whose product has a size of its own.
typedef struct chain_sizes {
    VkDispatchIndirectCommand route, inner, down, combine;
} chain_sizes;

// The head as its commands were recorded: of rows in head_in, or of these rows of the residual on
// the device.
typedef struct head_job {
    uint32_t count, rows[FEW_ROWS];
    bool on_device, with_logits;
} head_job;

// Commands of a layer: recorded once, for a few rows and for many.
enum { CLASSES = 2 };

struct stk_vk_stream {
    stk_vk *vk;
    stk_vk_dense *dense;
    stk_vk_stream_options options; // capacity_tokens is owned
    uint32_t *capacity_tokens;
    uint32_t tile_rows, row_count;
    step_layout layout;
    act_block block;        // of [rows_max][width]
    stk_vk_buffer step;     // on the device
    stk_vk_buffer step_in;  // written by the host; the same buffer where that can
    stk_vk_buffer x_in;     // [rows][width], written by the host
    stk_vk_buffer acts;     // a block
    stk_vk_buffer host;     // the same, read by the host
    stk_vk_buffer qkv;      // q[rows][heads], k and v
    stk_vk_buffer attended; // [rows][heads * head_dim], then q, d and sum
    stk_vk_buffer projected;
    stk_vk_buffer states; // [FEW_ROWS][heads][segments][head_dim + 2]
    stk_vk_buffer *kv;    // [layer]: keys, then values
    VkCommandBuffer begin[CLASSES];
    VkCommandBuffer begun; // of these the one that the next submission begins with; NULL: none
    chain_sizes (*sizes_of)(const void *chain, uint32_t rows); // NULL: there is no chain
    const void *chain;
    VkCommandBuffer (*layers)[CLASSES];
    uint64_t value; // of the compute queue, when the newest layer is done

    stk_vk_buffer head_in;     // x of up to logit_rows_max rows
    stk_vk_buffer head_acts;   // a block
    stk_vk_buffer logits;      // [logit rows][vocab padded]
    stk_vk_buffer logits_host; // the same where the host can read logits itself
    stk_vk_buffer places, best;
    uint32_t vocab_padded, head_count;
    bool has_logits;
    VkCommandBuffer head_commands;
    head_job head_recorded; // in them; count 0: nothing
};

act_block stk_vk_act_block_of(uint64_t rows, uint64_t n);
uint32_t stk_vk_dense_segments_max(const stk_vk_stream *s);
uint32_t stk_vk_dense_queries(const stk_vk *vk); // of a tile of many rows

// Workgroups of y = matrix . acts, and its commands; many_rows: the batch, 0 for a few.
// `many` rows of activations, as a prompt has, or a few.
VkDispatchIndirectCommand stk_vk_dense_size(const stk_matrix *matrix, uint32_t rows, bool many);
typedef struct dense_acts {
    VkDeviceAddress x, q, d, sum;
} dense_acts;
STK_CHECKED stk_status stk_vk_dense_bind(stk_vk *vk, VkCommandBuffer commands,
                                         const dense_matrix *matrix, const dense_acts *acts,
                                         VkDeviceAddress y, uint32_t y_stride,
                                         VkDeviceAddress many_rows);

// dense_record.c: records a layer's commands, and after a failure nothing more.
typedef struct layer_recorder {
    stk_vk_stream *stream;
    VkCommandBuffer commands;
    uint32_t layer;
    bool few;
    stk_status status;
} layer_recorder;

// A dispatch whose size the device reads from the step: of what is bound, or with its binding.
void stk_vk_record_dispatch(layer_recorder *r, dispatch which);
void stk_vk_record_shader(layer_recorder *r, dispatch which, stk_vk_shader shader,
                          const VkDeviceAddress *addresses, const uint32_t *constants);
void stk_vk_record_product(layer_recorder *r, dispatch which, const dense_matrix *matrix,
                           const dense_acts *acts, VkDeviceAddress y, uint32_t y_stride);
void stk_vk_record_barrier(layer_recorder *r); // between shaders
// The three parts of attention, each with a barrier behind it: from the residual at x to keys and
// values in the cache, to what was attended, to the residual and its norm in s->acts and in a block
// at `copy`.
void stk_vk_record_project(layer_recorder *r, VkDeviceAddress x);
void stk_vk_record_attend(layer_recorder *r);
void stk_vk_record_output(layer_recorder *r, VkDeviceAddress copy);
dense_acts stk_vk_stream_acts(const stk_vk_stream *s); // the norm

STK_CHECKED stk_status stk_vk_stream_record(stk_vk_stream *s);
// Records the head for the next submission and notes it as the last one.
STK_CHECKED stk_status stk_vk_stream_prepare_head(stk_vk_stream *s, const head_job *job);
STK_CHECKED stk_status stk_vk_stream_open_head(stk_vk_stream *s);
void stk_vk_stream_close_head(stk_vk_stream *s);
uint64_t stk_vk_stream_head_bytes(const stk_vk_dense_options *dense,
                                  const stk_vk_stream_options *options);

// upload.c: copies host memory to the device and waits: for loading.
STK_CHECKED stk_status stk_vk_upload(stk_vk *vk, const stk_vk_buffer *to, uint64_t at,
                                     const void *from, uint64_t bytes);

#endif
