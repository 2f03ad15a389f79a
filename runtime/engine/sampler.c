#include "engine/sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// Without top-k the cut is looked for in the best 256 first, then in eight times as many: real
// distributions end there, and a flat one still costs only a few passes.
enum { SELECT_FIRST = 256, SELECT_GROWTH = 8 };

struct stk_sampler {
    stk_sampler_options options;
    stk_random random;
    uint32_t vocab_size;
    float *logits;             // [vocab_size], penalised
    stk_candidate *candidates; // [vocab_size]; probability holds the logit while selecting
    int32_t *window;           // [window_max], of which repeat_last are a ring
    uint32_t window_max;
    uint32_t window_used, window_next;
};

typedef struct summary {
    float best; // largest logit, -INFINITY when there is none
    int32_t best_id;
    uint32_t alive; // logits above -infinity
} summary;

static bool is_sane(const stk_sampler_options *o)
{
    return o->temperature >= 0 && isfinite(o->temperature) && o->top_p > 0 && o->top_p <= 1 &&
           o->min_p >= 0 && o->min_p <= 1 && o->repeat_penalty > 0 && isfinite(o->repeat_penalty);
}

stk_status stk_sampler_open(const stk_sampler_options *options, uint32_t vocab_size,
                            stk_sampler **out)
{
    if (vocab_size == 0 || vocab_size > INT32_MAX || !is_sane(options))
        return STK_INVALID;
    stk_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler)
        return STK_NO_MEMORY;
    sampler->options = *options;
    sampler->window_max = options->repeat_last;
    sampler->vocab_size = vocab_size;
    sampler->logits = malloc(vocab_size * sizeof *sampler->logits);
    sampler->candidates = malloc(vocab_size * sizeof *sampler->candidates);
    sampler->window = malloc(((size_t)options->repeat_last + 1) * sizeof *sampler->window);
    if (!sampler->logits || !sampler->candidates || !sampler->window) {
        stk_sampler_close(&sampler);
        return STK_NO_MEMORY;
    }
    stk_sampler_reset(sampler);
    *out = sampler;
    return STK_OK;
}

uint64_t stk_sampler_bytes(uint32_t vocab_size)
{
    return vocab_size * (sizeof(float) + sizeof(stk_candidate));
}

void stk_sampler_close(stk_sampler **sampler)
{
    if (!*sampler)
        return;
    free((*sampler)->logits);
    free((*sampler)->candidates);
    free((*sampler)->window);
    free(*sampler);
    *sampler = NULL;
}

void stk_sampler_reset(stk_sampler *sampler)
{
    sampler->random = stk_random_seeded(sampler->options.seed);
    sampler->window_used = sampler->window_next = 0;
}

bool stk_sampler_is_greedy(const stk_sampler *sampler)
{
    const stk_sampler_options *o = &sampler->options;
    return o->temperature <= 0 && (o->repeat_last == 0 || o->repeat_penalty == 1.0f);
}

void stk_sampler_accept(stk_sampler *sampler, int32_t token)
{
    uint32_t last = sampler->options.repeat_last;
    if (last == 0 || token < 0 || (uint32_t)token >= sampler->vocab_size)
        return;
    sampler->window[sampler->window_next] = token;
    sampler->window_next = (sampler->window_next + 1) % last;
    if (sampler->window_used < last)
        sampler->window_used++;
}

static void penalise(stk_sampler *sampler, const float *logits)
{
    float penalty = sampler->options.repeat_penalty;
    memcpy(sampler->logits, logits, sampler->vocab_size * sizeof *logits);
    if (penalty == 1)
        return;
    for (uint32_t i = 0; i < sampler->window_used; i++) {
        int32_t id = sampler->window[i]; // may come up again: computed from the input each time
        sampler->logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
    }
}

static summary summarise(const stk_sampler *sampler)
{
    summary s = {.best = -INFINITY};
    for (uint32_t i = 0; i < sampler->vocab_size; i++) {
        float logit = sampler->logits[i];
        s.alive += logit > -INFINITY; // false for NaN
        if (logit > s.best) {
            s.best = logit;
            s.best_id = (int32_t)i;
        }
    }
    return s;
}

// exp(logit - best), also where both are infinite.
static float weight(float logit, float best, float temperature)
{
    return logit == best ? 1 : expf((logit - best) / temperature);
}

static bool worse(stk_candidate a, stk_candidate b)
{
    return a.probability < b.probability || (a.probability == b.probability && a.id > b.id);
}

// Restores the heap, worst at the root, below `at`.
static void sift_down(stk_candidate *heap, uint32_t count, uint32_t at)
{
    stk_candidate moving = heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && worse(heap[child + 1], heap[child]))
            child++;
        if (!worse(heap[child], moving))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

// Puts the `count` best tokens with their logits into candidates, best first. count <= alive.
static void select_best(stk_sampler *sampler, uint32_t count)
{
    stk_candidate *heap = sampler->candidates;
    uint32_t used = 0;
    for (uint32_t i = 0; i < sampler->vocab_size; i++) {
        stk_candidate c = {(int32_t)i, sampler->logits[i]};
        if (!(c.probability > -INFINITY))
            continue;
        if (used < count) {
            heap[used++] = c;
            if (used == count)
                for (uint32_t at = count / 2; at-- > 0;)
                    sift_down(heap, count, at);
        } else if (worse(heap[0], c)) {
            heap[0] = c;
            sift_down(heap, count, 0);
        }
    }
    for (uint32_t left = count; left-- > 1;) {
        stk_candidate worst = heap[0];
        heap[0] = heap[left];
        heap[left] = worst;
        sift_down(heap, left, 0);
    }
}

static double mass_of_all(const stk_sampler *sampler, float best)
{
    double mass = 0;
    for (uint32_t i = 0; i < sampler->vocab_size; i++)
        if (sampler->logits[i] > -INFINITY)
            mass += (double)weight(sampler->logits[i], best, 1);
    return mass;
}

// How many of the best-first candidates[0..count) stay by top-p, whose whole mass is `mass`, and by
// min-p. *ended: the cut lies inside; otherwise candidates beyond count might stay too.
static uint32_t cut(const stk_sampler *sampler, uint32_t count, double mass, float best,
                    bool *ended)
{
    const stk_sampler_options *o = &sampler->options;
    double wanted = o->top_p < 1 ? (double)o->top_p * mass : INFINITY, sum = 0;
    *ended = true;
    for (uint32_t i = 0; i < count; i++) {
        float w = weight(sampler->candidates[i].probability, best, 1);
        if (i > 0 && (sum >= wanted || w < o->min_p))
            return i;
        sum += (double)w;
    }
    *ended = sum >= wanted;
    return count;
}

// Stages 3 to 5: leaves the kept candidates with their logits, returns how many.
static uint32_t filter(stk_sampler *sampler, summary s)
{
    const stk_sampler_options *o = &sampler->options;
    bool has_top_k = o->top_k > 0 && o->top_k < s.alive, ended;
    if (has_top_k) {
        double mass = 0;
        select_best(sampler, o->top_k);
        for (uint32_t i = 0; i < o->top_k; i++)
            mass += (double)weight(sampler->candidates[i].probability, s.best, 1);
        return cut(sampler, o->top_k, mass, s.best, &ended);
    }
    if (o->top_p >= 1) { // each candidate is judged alone: no order is needed
        uint32_t count = 0;
        for (uint32_t i = 0; i < sampler->vocab_size; i++) {
            float logit = sampler->logits[i];
            if (logit > -INFINITY && (o->min_p <= 0 || weight(logit, s.best, 1) >= o->min_p))
                sampler->candidates[count++] = (stk_candidate){(int32_t)i, logit};
        }
        return count;
    }
    double mass = mass_of_all(sampler, s.best);
    for (uint32_t count = SELECT_FIRST;; count *= SELECT_GROWTH) {
        if (count > s.alive || count > UINT32_MAX / SELECT_GROWTH)
            count = s.alive;
        select_best(sampler, count);
        uint32_t kept = cut(sampler, count, mass, s.best, &ended);
        if (ended || count == s.alive)
            return kept;
    }
}

uint32_t stk_sampler_distribution(stk_sampler *sampler, const float *logits,
                                  const stk_candidate **out)
{
    stk_candidate *candidates = sampler->candidates;
    penalise(sampler, logits);
    summary s = summarise(sampler);
    *out = candidates;
    if (sampler->options.temperature == 0 || s.alive <= 1) {
        candidates[0] = (stk_candidate){s.best_id, 1};
        return 1;
    }
    uint32_t count = filter(sampler, s);
    double mass = 0;
    for (uint32_t i = 0; i < count; i++) {
        candidates[i].probability = weight(candidates[i].probability, s.best,
                                           sampler->options.temperature);
        mass += (double)candidates[i].probability;
    }
    for (uint32_t i = 0; i < count; i++)
        candidates[i].probability = (float)((double)candidates[i].probability / mass);
    return count;
}

int32_t stk_sampler_draw(stk_sampler *sampler, const stk_candidate *candidates, uint32_t count)
{
    double mass = 0;
    for (uint32_t i = 0; i < count; i++)
        mass += (double)candidates[i].probability;
    double left = stk_random_unit(&sampler->random) * mass;
    int32_t chosen = candidates[0].id; // rounding may leave a trace: the last possible one takes it
    for (uint32_t i = 0; i < count; i++) {
        if (!(candidates[i].probability > 0))
            continue;
        chosen = candidates[i].id;
        left -= (double)candidates[i].probability;
        if (left < 0)
            break;
    }
    return chosen;
}

int32_t stk_sampler_sample(stk_sampler *sampler, const float *logits)
{
    const stk_candidate *candidates;
    uint32_t count = stk_sampler_distribution(sampler, logits, &candidates);
    if (sampler->options.temperature == 0)
        return candidates[0].id;
    return stk_sampler_draw(sampler, candidates, count);
}

bool stk_sampler_save(const stk_sampler *sampler, stk_sampler_state *out)
{
    stk_sampler_state state = {.options = sampler->options, .random = sampler->random};
    if (state.options.repeat_penalty == 1.0f)
        state.options.repeat_last = 0;
    uint32_t last = state.options.repeat_last;
    if (last > STK_SAMPLER_WINDOW_MAX)
        return false;
    state.window_count = last > 0 ? sampler->window_used : 0;
    for (uint32_t i = 0; i < state.window_count; i++)
        state.window[i] =
            sampler->window[(sampler->window_next + last - state.window_count + i) % last];
    *out = state;
    return true;
}

stk_status stk_sampler_restore(stk_sampler *sampler, const stk_sampler_state *state)
{
    const stk_sampler_options *o = &state->options;
    if (!is_sane(o) || o->repeat_last > sampler->window_max ||
        o->repeat_last > STK_SAMPLER_WINDOW_MAX || state->window_count > o->repeat_last)
        return STK_INVALID;
    for (uint32_t i = 0; i < state->window_count; i++)
        if (state->window[i] < 0 || (uint32_t)state->window[i] >= sampler->vocab_size)
            return STK_INVALID;
    sampler->options = *o;
    sampler->random = state->random;
    sampler->window_used = sampler->window_next = 0;
    for (uint32_t i = 0; i < state->window_count; i++)
        stk_sampler_accept(sampler, state->window[i]);
    return STK_OK;
}

void stk_sampler_skip(stk_sampler *sampler)
{
    if (sampler->options.temperature != 0)
        stk_random_unit(&sampler->random);
}

double stk_sampler_random(stk_sampler *sampler)
{
    return stk_random_unit(&sampler->random);
}
