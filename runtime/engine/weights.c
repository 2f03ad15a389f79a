#include "engine/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/pages.h"
#include "store/model_file.h"
#include "store/reading.h"

enum { TENSORS_PER_LAYER = 7, ALIGN = 64, PAGE_BYTES = 4096, ROWS_PER_TASK = 512 };

// One thing to bring in: a node's part of a matrix to pack, or a vector to turn into floats.
typedef struct item {
    const stk_gguf_tensor *tensor;
    stk_linear *linear;   // or
    const float **vector; // one of the two
    uint64_t at;          // in pages
    uint32_t node, row_first;
    uint32_t rows, cols; // of the part
    uint32_t first_task; // tasks are runs of ROWS_PER_TASK rows
} item;

typedef struct load_job {
    item *items; // by node
    uint32_t count, task_count;
    const stk_nodes *nodes;
    uint32_t node, node_count;             // the node being listed, and how many there are
    uint64_t node_at[STK_NODES_MAX + 1];   // where its part of pages begins
    uint32_t node_task[STK_NODES_MAX + 1]; // and its tasks
    uint8_t *pages;
    const stk_model_file *file;
    stk_reading reading;
} load_job;

// The first row of a node's part.
static uint32_t part_begin(const load_job *job, uint32_t node, uint32_t rows)
{
    uint32_t units = (rows + STK_PART_ROWS - 1) / STK_PART_ROWS;
    uint32_t row = stk_nodes_share_begin(job->nodes, node, units) * STK_PART_ROWS;
    return row < rows ? row : rows;
}

static void add_matrix(load_job *job, const stk_gguf_tensor *tensor, stk_linear *linear)
{
    uint32_t rows = (uint32_t)tensor->dims[1], begin = part_begin(job, job->node, rows);
    job->items[job->count++] = (item){.tensor = tensor,
                                      .linear = linear,
                                      .node = job->node,
                                      .row_first = begin,
                                      .cols = (uint32_t)tensor->dims[0],
                                      .rows = part_begin(job, job->node + 1, rows) - begin};
}

static void add_vector(load_job *job, const stk_gguf_tensor *tensor, const float **vector)
{
    if (job->node > 0) // read by everybody, and short
        return;
    job->items[job->count++] = (item){
        .tensor = tensor, .vector = vector, .cols = (uint32_t)tensor->dims[0], .rows = 1};
}

static stk_format format_of(const item *i)
{
    return stk_dense_format(i->tensor->type, i->cols);
}

static bool has_own_embedding(const stk_model *model, bool skips_embedding)
{
    bool is_head = model->output == model->token_embd && stk_model_has_head(model);
    return stk_model_has_embedding(model) && !is_head && !skips_embedding;
}

static void list_items(load_job *job, const stk_model *model, stk_weights *w)
{
    for (uint32_t i = 0; i < model->layer_count; i++) {
        const stk_layer *l = &model->layers[i];
        stk_layer_weights *to = &w->layers[i];
        add_vector(job, l->attn_norm, &to->attn_norm);
        add_vector(job, l->ffn_norm, &to->ffn_norm);
        add_matrix(job, l->attn_q, &to->q);
        add_matrix(job, l->attn_k, &to->k);
        add_matrix(job, l->attn_v, &to->v);
        add_matrix(job, l->attn_output, &to->output);
        add_matrix(job, l->router, &to->router);
    }
    if (!stk_model_has_head(model))
        return;
    add_vector(job, model->output_norm, &w->output_norm);
    add_matrix(job, model->output, &w->head);
}

// Gives every item its place, and the tasks their numbers. Returns the bytes needed.
static uint64_t place_items(load_job *job)
{
    uint64_t at = 0;
    for (uint32_t i = 0, node = 0; i < job->count; i++) {
        item *it = &job->items[i];
        for (; node < it->node; node++) {
            at = (at + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
            job->node_at[node + 1] = at;
            job->node_task[node + 1] = job->task_count;
        }
        it->at = at;
        it->first_task = job->task_count;
        job->task_count += (it->rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
        uint64_t bytes = it->vector
                             ? 4 * (uint64_t)it->cols
                             : stk_dense_bytes(it->tensor->type, format_of(it), it->rows, it->cols);
        at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    job->node_at[job->node_count] = at;
    job->node_task[job->node_count] = job->task_count;
    return at;
}

static stk_status load_rows(load_job *job, const item *it, uint32_t begin, uint32_t count,
                            uint8_t *buffer)
{
    uint64_t row_bytes = stk_type_row_bytes(it->tensor->type, it->cols);
    stk_status status = stk_model_file_read(
        job->file, it->tensor, (it->row_first + begin) * row_bytes, count * row_bytes, buffer);
    if (status != STK_OK)
        return status;
    if (it->vector)
        it->tensor->type->dequantize(buffer, (float *)(void *)(job->pages + it->at), it->cols);
    else
        stk_dense_pack(it->tensor->type, format_of(it), it->rows, it->cols, begin, count, buffer,
                       job->pages + it->at);
    return STK_OK;
}

static uint64_t buffer_bytes(const load_job *job)
{
    uint64_t bytes = 1;
    for (uint32_t i = 0; i < job->count; i++) {
        uint64_t rows = job->items[i].rows < ROWS_PER_TASK ? job->items[i].rows : ROWS_PER_TASK;
        uint64_t need = rows * stk_type_row_bytes(job->items[i].tensor->type, job->items[i].cols);
        bytes = need > bytes ? need : bytes;
    }
    return bytes;
}

static void load_worker(stk_worker *worker, void *argument)
{
    load_job *job = argument;
    uint32_t task, end, i = 0, first = job->node_task[worker->node];
    uint32_t count = job->node_task[worker->node + 1] - first;
    uint8_t *buffer = malloc(buffer_bytes(job));
    if (!buffer)
        stk_reading_count(&job->reading, STK_NO_MEMORY);
    // Workers load what is their node's: where pages cannot be bound, first use places them.
    while (stk_worker_take_from(worker, worker->node, count, 1, &task, &end)) {
        task += first;
        if (!stk_reading_goes_on(&job->reading))
            break;
        while (i + 1 < job->count && job->items[i + 1].first_task <= task)
            i++; // tasks come in rising order
        const item *it = &job->items[i];
        uint32_t begin = (task - it->first_task) * ROWS_PER_TASK;
        uint32_t rows = it->rows - begin < ROWS_PER_TASK ? it->rows - begin : ROWS_PER_TASK;
        stk_reading_count(&job->reading, load_rows(job, it, begin, rows, buffer));
    }
    free(buffer);
}

static void publish(const load_job *job, const stk_cpu *cpu, stk_linear_part *parts)
{
    for (uint32_t i = 0; i < job->count; i++) {
        const item *it = &job->items[i];
        if (it->vector) {
            *it->vector = (const float *)(const void *)(job->pages + it->at);
            continue;
        }
        stk_format format = format_of(it);
        stk_linear *linear = it->linear;
        const uint8_t *data = it->rows ? job->pages + it->at : NULL;
        if (it->node == 0) {
            linear->matmul = stk_cpu_matmul(cpu, format, it->tensor->type);
            linear->matrix = (stk_matrix){it->tensor->type, format, (uint32_t)it->tensor->dims[1],
                                          it->cols, job->node_count == 1 ? data : NULL};
            linear->part_count = job->node_count;
            linear->parts = parts;
            parts += job->node_count;
        }
        linear->parts[it->node] = (stk_linear_part){
            {it->tensor->type, format, it->rows, it->cols, data}, it->row_first};
    }
}

// The list of everything to load, without places. False: no memory.
static bool make_list(load_job *job, const stk_model *model, const stk_nodes *nodes,
                      bool skips_embedding, stk_weights *w)
{
    job->nodes = nodes;
    stk_nodes_list(nodes, &job->node_count);
    w->layers = calloc(model->layer_count, sizeof *w->layers);
    job->items = calloc((model->layer_count * TENSORS_PER_LAYER + 3) * job->node_count,
                        sizeof *job->items);
    if (!w->layers || !job->items)
        return false;
    for (; job->node < job->node_count; job->node++) {
        list_items(job, model, w);
        if (has_own_embedding(model, skips_embedding))
            add_matrix(job, model->token_embd, &w->embedding);
    }
    return true;
}

uint64_t stk_weights_bytes(const stk_model *model, const stk_nodes *nodes, bool skips_embedding)
{
    stk_weights w = {0};
    load_job job = {0};
    uint64_t bytes = 0;
    if (make_list(&job, model, nodes, skips_embedding, &w))
        bytes = place_items(&job);
    free(job.items);
    free(w.layers);
    return bytes;
}

stk_status stk_weights_load(const stk_weights_options *options, stk_weights *out)
{
    const stk_model *model = options->model;
    stk_nodes *nodes = stk_team_nodes(options->team);
    stk_weights w = {0};
    load_job job = {.reading = {.what = "loading attention and head",
                                .log = options->log,
                                .cancel = options->cancel}};
    stk_model_file *file = NULL;
    stk_status status = STK_NO_MEMORY;
    if (!make_list(&job, model, nodes, options->skips_embedding, &w))
        goto done;
    w.parts = calloc(job.count, sizeof *w.parts);
    if (!w.parts)
        goto done;
    w.bytes = place_items(&job);
    w.pages = stk_pages_alloc(w.bytes);
    if (!w.pages) {
        stk_error(options->log, "cannot reserve %.2f GiB for attention and head",
                  (double)w.bytes / 0x1p30);
        goto done;
    }
    job.pages = w.pages;
    for (uint32_t n = 0; n < job.node_count; n++)
        (void)stk_nodes_place(nodes, n, job.pages + job.node_at[n],
                              job.node_at[n + 1] - job.node_at[n]);
    memcpy(w.node_at, job.node_at, sizeof w.node_at);
    status = stk_model_file_open(options->gguf, options->direct, options->log, &file);
    if (status != STK_OK)
        goto done;
    job.file = file;
    job.reading.total = job.task_count;
    status = stk_reading_run(&job.reading, options->team, load_worker, &job);
    if (status != STK_OK)
        goto done;
    stk_pages_gather(w.pages, w.bytes);
    publish(&job, options->cpu, w.parts);
    if (!has_own_embedding(model, options->skips_embedding))
        w.embedding = w.head;

done:
    stk_model_file_close(&file);
    free(job.items);
    if (status == STK_OK)
        *out = w;
    else
        stk_weights_free(&w);
    return status;
}

void stk_linear_multiply(const stk_linear *linear, const stk_act *acts, uint32_t count, float *y,
                         size_t y_stride)
{
    for (uint32_t n = 0; n < linear->part_count; n++) {
        const stk_linear_part *p = &linear->parts[n];
        if (p->matrix.rows > 0)
            linear->matmul(&p->matrix, 0, p->matrix.rows, acts, count, y + p->row_first, y_stride);
    }
}

void stk_linear_dequantize_row(const stk_linear *linear, uint32_t row, float *out)
{
    const stk_linear_part *p = linear->parts;
    while (row - p->row_first >= p->matrix.rows) // parts without rows are passed over
        p++;
    stk_matrix_dequantize_row(&p->matrix, row - p->row_first, out);
}

void stk_weights_free(stk_weights *weights)
{
    free(weights->layers);
    free(weights->parts);
    stk_pages_free(weights->pages, weights->bytes);
    memset(weights, 0, sizeof *weights);
}
