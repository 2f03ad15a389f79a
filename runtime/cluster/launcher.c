#include "cluster/launcher.h"

#include <errno.h>
#include <stdlib.h>

// Each family's variables of rank and count. Batch scripts of Slurm have SLURM_PROCID without being
// one of several, so only steps count, which have the other variable too.
static const struct {
    const char *rank, *count, *name;
} families[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "Open MPI"},
    {"PMI_RANK", "PMI_SIZE", "PMI"},
    {"PMIX_RANK", "SLURM_STEP_NUM_TASKS", "Slurm"},
};

static bool read_number(const char *name, uint32_t *out)
{
    const char *text = getenv(name);
    char *end;
    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || value > 1u << 20)
        return false;
    *out = (uint32_t)value;
    return true;
}

bool stk_launch_detect(stk_launch *out)
{
    *out = (stk_launch){.count = 1};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        uint32_t rank, count;
        if (!read_number(families[i].rank, &rank) || !read_number(families[i].count, &count))
            continue;
        if (count < 2 || rank >= count)
            return false;
        *out = (stk_launch){rank, count, families[i].name};
        return true;
    }
    return false;
}

bool stk_launch_is_mute(void)
{
    stk_launch launch;
    return stk_launch_detect(&launch) && launch.rank > 0;
}
