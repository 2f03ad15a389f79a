// Which device a user means. Needs no Vulkan, so it is built on every machine.
#include "vulkan/device.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const char *stk_vk_kind_name(stk_vk_kind kind)
{
    static const char *const names[] = {"discrete", "integrated", "virtual", "other", "cpu"};
    return (unsigned)kind < sizeof names / sizeof *names ? names[kind] : "other";
}

static bool contains(const char *text, const char *part)
{
    for (; *text; text++) {
        size_t i = 0;
        while (part[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (!part[i])
            return true;
    }
    return false;
}

static bool same(const char *a, const char *b)
{
    return strlen(a) == strlen(b) && contains(a, b);
}

static uint32_t best(const stk_vk_device_info *infos, uint32_t count)
{
    uint32_t found = count;
    for (uint32_t i = 0; i < count; i++)
        if (infos[i].usable && (found == count || infos[i].kind < infos[found].kind))
            found = i;
    return found;
}

static uint32_t named(const stk_vk_device_info *infos, uint32_t count, const char *choice)
{
    char *end;
    unsigned long index = strtoul(choice, &end, 10);
    if (isdigit((unsigned char)*choice) && *end == '\0')
        return index < count ? (uint32_t)index : count;
    for (uint32_t i = 0; i < count; i++)
        if (infos[i].pci[0] && same(infos[i].pci, choice))
            return i;
    for (uint32_t i = 0; i < count && *choice; i++)
        if (contains(infos[i].name, choice))
            return i;
    return count;
}

stk_status stk_vk_choose(const stk_vk_device_info *infos, uint32_t count, const char *choice,
                         const stk_log *log, uint32_t *out_index)
{
    bool any = !choice || same(choice, "auto");
    uint32_t index = any ? best(infos, count) : named(infos, count, choice);
    if (index == count)
        return stk_fail(log, STK_INVALID, "vulkan: none of the %u devices is %s%s%s", count,
                        any ? "usable" : "'", any ? "" : choice, any ? "" : "'");
    if (!infos[index].usable)
        return stk_fail(log, STK_INVALID, "vulkan: %s %s", infos[index].name,
                        infos[index].unusable_because);
    *out_index = index;
    return STK_OK;
}
