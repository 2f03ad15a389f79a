#include "scheduler/history.h"

static const double YOUNG_S = 600; // what is much younger counts alike
static const double SECONDS_MAX = 6;

static double weight(const stk_measured *m)
{
    double age_s = m->age_s > 0 ? m->age_s : 0;
    return m->bytes_per_s > 0 ? m->seconds / (age_s + YOUNG_S) : 0;
}

double stk_history_bytes_per_s(const stk_measured *measured, uint32_t count)
{
    double weights = 0, seconds = 0;
    for (uint32_t i = 0; i < count; i++) {
        double w = weight(&measured[i]);
        weights += w;
        seconds += w > 0 ? w / measured[i].bytes_per_s : 0;
    }
    return seconds > 0 ? weights / seconds : 0;
}

stk_measured stk_history_add(const stk_measured *newer, const stk_measured *older)
{
    const stk_measured both[] = {*newer, *older};
    double seconds = (weight(newer) + weight(older)) * YOUNG_S;
    return (stk_measured){.bytes_per_s = stk_history_bytes_per_s(both, 2),
                          .seconds = seconds < SECONDS_MAX ? seconds : SECONDS_MAX};
}
