#include "engine/heat.h"

#include <stdlib.h>
#include <string.h>

#include "scheduler/residency.h"
#include "store/usage_file.h"

// A topic's worth of text: faster and experts move for a sentence, slower and they stay behind.
static const double half_life_tokens = 256;

typedef struct count {
    float rate; // as of `token`
    uint32_t token;
} count;

struct stk_heat {
    const stk_log *log;
    char *path;
    uint32_t layer_count, expert_count, token;
    count counts[]; // [layer][expert]
};

stk_status stk_heat_open(const char *path, uint32_t layer_count, uint32_t expert_count,
                         const stk_log *log, stk_heat **out)
{
    size_t total = (size_t)layer_count * expert_count;
    stk_heat *h = calloc(1, sizeof *h + total * sizeof *h->counts);
    float *rates = path ? calloc(total, sizeof *rates) : NULL;
    if (!h || (path && !rates) || (path && !(h->path = strdup(path)))) {
        free(h);
        free(rates);
        return STK_NO_MEMORY;
    }
    h->log = log;
    h->layer_count = layer_count;
    h->expert_count = expert_count;
    uint32_t tokens = path ? stk_usage_read(path, layer_count, expert_count, log, rates) : 0;
    h->token = tokens < STK_USAGE_TOKENS_MAX ? tokens : STK_USAGE_TOKENS_MAX;
    for (size_t i = 0; i < total && tokens > 0; i++)
        h->counts[i] = (count){rates[i], h->token};
    free(rates);
    *out = h;
    return STK_OK;
}

void stk_heat_close(stk_heat **pointer)
{
    stk_heat *h = *pointer;
    if (!h)
        return;
    size_t total = (size_t)h->layer_count * h->expert_count;
    float *rates = h->path ? malloc(total * sizeof *rates) : NULL;
    for (size_t i = 0; rates && i < total; i++)
        rates[i] = stk_heat_of(h, 0, (uint32_t)i);
    if (rates)
        stk_usage_write(h->path, h->layer_count, h->expert_count, h->log, rates, h->token);
    free(rates);
    free(h->path);
    free(h);
    *pointer = NULL;
}

void stk_heat_tick(stk_heat *h, uint32_t tokens)
{
    h->token += tokens;
}

void stk_heat_touch(stk_heat *h, uint32_t layer, uint32_t expert)
{
    count *c = &h->counts[(size_t)layer * h->expert_count + expert];
    c->rate = stk_usage_touched(stk_heat_of(h, layer, expert), half_life_tokens);
    c->token = h->token;
}

float stk_heat_of(const stk_heat *h, uint32_t layer, uint32_t expert)
{
    const count *c = &h->counts[(size_t)layer * h->expert_count + expert];
    return stk_usage_after(c->rate, h->token - c->token, half_life_tokens);
}

bool stk_heat_is_known(const stk_heat *h)
{
    return h->token > 0;
}
