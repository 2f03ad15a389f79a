#include "scheduler/history.h"

static const double YOUNG_S = 600; // what is much younger counts alike

double stk_history_bytes_per_s(const stk_measured *measured, uint32_t count)
{
    double weights = 0, seconds = 0;
    for (uint32_t i = 0; i < count; i++) {
        double age_s = measured[i].age_s > 0 ? measured[i].age_s : 0;
        if (!(measured[i].bytes_per_s > 0))
            continue;
        weights += 1 / (age_s + YOUNG_S);
        seconds += 1 / (age_s + YOUNG_S) / measured[i].bytes_per_s;
    }
    return seconds > 0 ? weights / seconds : 0;
}
