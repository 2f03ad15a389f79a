// cli/bench_machine.c: the machine a run was made on, from what Linux says about it.
#include "base/cores.h"
#include "cli/bench.h"
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stk_commit.h"

enum { LINE_BYTES = 512, CACHES_MAX = 16 };

// The first line of a file without its newline; false when it cannot be read.
static bool read_line(const char *path, char line[LINE_BYTES])
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool ok = fgets(line, LINE_BYTES, file) != NULL;
    fclose(file);
    if (ok)
        line[strcspn(line, "\n")] = '\0';
    return ok;
}

// What follows "key" and a colon in a file of "key : value" lines.
static bool read_field(const char *path, const char *key, char value[LINE_BYTES])
{
    char line[LINE_BYTES];
    size_t length = strlen(key);
    bool found = false;
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    while (!found && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, key, length) != 0 || !colon ||
            strspn(line + length, " \t") != (size_t)(colon - line) - length)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(value, LINE_BYTES, "%.*s", (int)strcspn(colon, "\n"), colon);
        found = true;
    }
    fclose(file);
    return found;
}

static uint64_t read_kib(const char *path, const char *key)
{
    char value[LINE_BYTES];
    return read_field(path, key, value) ? strtoull(value, NULL, 10) * 1024 : 0;
}

static uint64_t llc_bytes(void)
{
    uint64_t bytes = 0;
    unsigned long deepest = 0;
    for (int i = 0; i < CACHES_MAX; i++) {
        char path[96], line[LINE_BYTES];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        if (!read_line(path, line))
            break;
        unsigned long level = strtoul(line, NULL, 10);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (level < deepest || !read_line(path, line))
            continue;
        char *unit;
        deepest = level;
        bytes = strtoull(line, &unit, 10);
        bytes <<= *unit == 'K' ? 10 : *unit == 'M' ? 20 : *unit == 'G' ? 30 : 0;
    }
    return bytes;
}

void stk_bench_machine_read(stk_bench_machine *machine)
{
    char value[LINE_BYTES];
    stk_cores *cores;
    time_t now = time(NULL);
    struct tm utc;
    *machine = (stk_bench_machine){.commit = STK_COMMIT, .version = STK_VERSION};
    bool known = read_field("/proc/cpuinfo", "model name", value) ||
                 read_line("/sys/firmware/devicetree/base/model", value);
    snprintf(machine->cpu, sizeof machine->cpu, "%.*s", (int)sizeof machine->cpu - 1,
             known ? value : "unknown");
    if (gmtime_r(&now, &utc))
        strftime(machine->date, sizeof machine->date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (stk_cores_open(NULL, &cores) == STK_OK) {
        machine->cores = stk_cores_count(cores);
        stk_cores_close(&cores);
    }
    if (sched_getaffinity(0, sizeof machine->cpus, &machine->cpus) == 0)
        machine->threads = (uint32_t)CPU_COUNT(&machine->cpus);
    machine->memory_bytes = read_kib("/proc/meminfo", "MemTotal");
    machine->llc_bytes = llc_bytes();
    if (getloadavg(&machine->load_average, 1) != 1)
        machine->load_average = 0;
}

// Room below a control group's limit; UINT64_MAX without one. Version 2, then version 1.
static uint64_t group_room(void)
{
    static const char *const files[][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
         "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
    };
    uint64_t room = UINT64_MAX;
    char group[LINE_BYTES], path[LINE_BYTES + 64], line[LINE_BYTES];
    for (int i = 0; i < 3; i++) {
        uint64_t values[2];
        int read = 0;
        for (; read < 2; read++) {
            if (i < 2)
                snprintf(path, sizeof path, "%s", files[i][read]);
            else if (read_line("/proc/self/cgroup", group) && strncmp(group, "0::/", 4) == 0)
                snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.%s", group + 3,
                         read == 0 ? "max" : "current");
            else
                break;
            char *end;
            if (!read_line(path, line))
                break;
            values[read] = strtoull(line, &end, 10);
            if (end == line) // "max"
                break;
        }
        if (read == 2 && values[0] > values[1] && values[0] - values[1] < room)
            room = values[0] - values[1];
    }
    return room;
}

uint64_t stk_bench_available_bytes(void)
{
    uint64_t room = group_room(), system = read_kib("/proc/meminfo", "MemAvailable");
    return room < system ? room : system;
}

uint64_t stk_bench_peak_rss_bytes(void)
{
    return read_kib("/proc/self/status", "VmHWM");
}

void stk_bench_peak_rss_reset(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    // Refused in some containers: then the peak includes the bandwidth's buffer.
    ssize_t written = write(fd, "5", 1);
    (void)written;
    close(fd);
}
