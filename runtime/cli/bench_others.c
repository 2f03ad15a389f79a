// cli/bench_others.c: how much of this process's cores something else used while it was timed.
#include "cli/bench.h"
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// From here up somebody else was there.
static const double NOISY_OTHERS = 0.05;
// A bandwidth that swings by more than this between passes was shared with something else.
static const double NOISY_SPREAD = 1.25;

bool stk_bench_cpu_busy(FILE *stat, const cpu_set_t *cpus, uint64_t *ticks)
{
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    *ticks = 0;
    while (getline(&line, &size, stat) > 0) {
        unsigned cpu;
        uint64_t user, nice, system, idle, waiting, interrupts, soft, stolen = 0;
        int fields = sscanf(line,
                            "cpu%u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                            " %" SCNu64 " %" SCNu64 " %" SCNu64,
                            &cpu, &user, &nice, &system, &idle, &waiting, &interrupts, &soft,
                            &stolen);
        if (fields < 8 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, cpus))
            continue;
        *ticks += user + nice + system + interrupts + soft + stolen;
        found = true;
    }
    free(line);
    return found;
}

static double clock_s(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

stk_bench_cpu_times stk_bench_cpu_times_now(const stk_bench_machine *machine)
{
    stk_bench_cpu_times now = {.at_s = clock_s(CLOCK_MONOTONIC),
                               .own_s = clock_s(CLOCK_PROCESS_CPUTIME_ID)};
    uint64_t ticks;
    FILE *stat = fopen("/proc/stat", "re");
    if (!stat)
        return now;
    now.is_known = stk_bench_cpu_busy(stat, &machine->cpus, &ticks);
    now.all_s = (double)ticks / (double)sysconf(_SC_CLK_TCK);
    fclose(stat);
    return now;
}

void stk_bench_others_add(stk_bench_others *others, const stk_bench_cpu_times *from,
                          const stk_bench_cpu_times *to)
{
    others->is_known = from->is_known && to->is_known;
    others->seconds += (to->all_s - from->all_s) - (to->own_s - from->own_s);
    others->elapsed_s += to->at_s - from->at_s;
    others->ticks++; // both readings are a tick off at most, half of one on average
}

double stk_bench_others_fraction(const stk_bench_others *others, uint32_t cpus)
{
    double all = others->elapsed_s * cpus;
    double unsure = (double)others->ticks * cpus / (double)sysconf(_SC_CLK_TCK);
    return others->seconds > unsure && all > 0 ? (others->seconds - unsure) / all : 0;
}

bool stk_bench_is_noisy(const stk_bench_report *report, const stk_bench_result *r)
{
    const stk_bench_machine *m = &report->machine;
    double cores = m->cores ? m->cores : 1;
    bool others = r->others.is_known
                      ? stk_bench_others_fraction(&r->others, m->threads) > NOISY_OTHERS
                      : m->load_average > cores / 2;
    return others || stk_bench_samples_max(&r->bandwidth.all) >
                         NOISY_SPREAD * stk_bench_samples_min(&r->bandwidth.all);
}
