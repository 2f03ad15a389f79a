#include "topology/limits.h"

#include "topology/sysfs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// Version 1 writes "no limit" as the largest multiple of a page.
static const uint64_t LIMIT_SANE_MAX = UINT64_C(1) << 60;

// A cgroup tree as this process sees it: where it is mounted, and which folder of it is ours.
typedef struct tree {
    char mount[STK_SYSFS_PATH_BYTES]; // under the root
    char own[STK_SYSFS_PATH_BYTES];   // "" or "/a/b", below the mount
    bool is_found, is_v2;
} tree;

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool list_has(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

// mountinfo writes blanks, tabs, newlines and backslashes as three octal digits.
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && strspn(from + 1, "01234567") >= 3) {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

// The folder of `controller` in a version 1 tree, or of everything in the version 2 tree when
// controller is NULL: the third field of its line in /proc/self/cgroup.
static bool own_folder(const char *root, const char *controller, char out[STK_SYSFS_PATH_BYTES])
{
    char path[STK_SYSFS_PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0;
    bool is_found = false;
    while (file && !is_found && getline(&line, &capacity, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *folder = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!folder)
            continue;
        *folder++ = '\0';
        controllers++;
        is_found = controller ? list_has(controllers, controller)
                              : strcmp(line, "0:") == 0 || (line[0] == '0' && !*controllers);
        if (is_found)
            snprintf(out, STK_SYSFS_PATH_BYTES, "%s", folder);
    }
    free(line);
    if (file)
        fclose(file);
    return is_found;
}

// Splits one line of mountinfo. False: not a cgroup mount that carries `controller`.
static bool take_mount(char *line, const char *controller, char **mount_root, char **mount_point)
{
    char *save = NULL, *fields[5] = {NULL};
    char *rest = strstr(line, " - ");
    if (!rest)
        return false;
    *rest = '\0';
    rest += 3;
    char *type = strtok_r(rest, " ", &save);
    strtok_r(NULL, " ", &save); // the source
    char *options = strtok_r(NULL, " \n", &save);
    if (!type || strcmp(type, controller ? "cgroup" : "cgroup2") != 0)
        return false;
    if (controller && !(options && list_has(options, controller)))
        return false;
    save = NULL;
    for (int i = 0; i < 5; i++)
        fields[i] = strtok_r(i ? NULL : line, " ", &save);
    if (!fields[4])
        return false;
    *mount_root = fields[3];
    *mount_point = fields[4];
    unescape(*mount_root);
    unescape(*mount_point);
    return true;
}

static tree find_tree(const char *root, const char *controller)
{
    tree t = {.is_v2 = !controller};
    char own[STK_SYSFS_PATH_BYTES] = "", path[STK_SYSFS_PATH_BYTES];
    if (!own_folder(root, controller, own))
        return t;
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "re");
    char *line = NULL, *mount_root, *mount_point;
    size_t capacity = 0;
    while (file && !t.is_found && getline(&line, &capacity, file) > 0) {
        if (!take_mount(line, controller, &mount_root, &mount_point))
            continue;
        int length = snprintf(t.mount, sizeof t.mount, "%s%s", root, mount_point);
        t.is_found = length > 0 && (size_t)length < sizeof t.mount;
        // A container sees the host's path in /proc/self/cgroup, but only its own part is mounted.
        size_t shared = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
        bool is_below = strncmp(own, mount_root, shared) == 0 &&
                        (own[shared] == '/' || own[shared] == '\0') && !strstr(own, "/..");
        snprintf(t.own, sizeof t.own, "%s", is_below ? own + shared : "");
        if (strcmp(t.own, "/") == 0)
            t.own[0] = '\0';
    }
    free(line);
    if (file)
        fclose(file);
    return t;
}

// One level of the tree bounds what all its processes hold together; clean file pages would be
// given back before anybody is killed.
static void take_memory(const tree *t, stk_limits *out)
{
    uint64_t limit = STK_LIMIT_NONE, high, used = 0, inactive = 0;
    if (!stk_sysfs_u64(&limit, "%s%s/%s", t->mount, t->own,
                       t->is_v2 ? "memory.max" : "memory.limit_in_bytes"))
        limit = STK_LIMIT_NONE;
    if (t->is_v2 && stk_sysfs_u64(&high, "%s%s/memory.high", t->mount, t->own))
        limit = min_u64(limit, high); // beyond it the kernel makes the process wait
    if (limit >= LIMIT_SANE_MAX)
        return;
    stk_sysfs_u64(&used, "%s%s/%s", t->mount, t->own,
                  t->is_v2 ? "memory.current" : "memory.usage_in_bytes");
    stk_sysfs_field(&inactive, t->is_v2 ? "inactive_file" : "total_inactive_file",
                    "%s%s/memory.stat", t->mount, t->own);
    used -= min_u64(used, inactive);
    out->memory_limit_bytes = min_u64(out->memory_limit_bytes, limit);
    out->memory_available_bytes = min_u64(out->memory_available_bytes,
                                          limit - min_u64(used, limit));
}

static void take_cpu(const tree *t, stk_limits *out)
{
    char text[STK_SYSFS_TEXT_BYTES];
    double quota = 0, period = 0;
    if (t->is_v2) {
        if (!stk_sysfs_text(text, sizeof text, "%s%s/cpu.max", t->mount, t->own) ||
            sscanf(text, "%lf %lf", &quota, &period) != 2) // "max 100000" is no limit
            return;
    } else {
        uint64_t v1_quota, v1_period;
        if (!stk_sysfs_u64(&v1_quota, "%s%s/cpu.cfs_quota_us", t->mount, t->own) ||
            !stk_sysfs_u64(&v1_period, "%s%s/cpu.cfs_period_us", t->mount, t->own))
            return; // -1 is no limit
        quota = (double)v1_quota;
        period = (double)v1_period;
    }
    if (quota > 0 && period > 0 && (out->cpu_quota <= 0 || quota / period < out->cpu_quota))
        out->cpu_quota = quota / period;
}

// From this process's folder up to the mount: every level counts.
static void climb(tree t, void (*take)(const tree *t, stk_limits *out), stk_limits *out)
{
    if (!t.is_found)
        return;
    for (;;) {
        take(&t, out);
        char *slash = strrchr(t.own, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

static uint64_t resource_limit(int resource)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return STK_LIMIT_NONE;
    return limit.rlim_cur;
}

void stk_limits_read(const char *root, const stk_log *log, stk_limits *out)
{
    uint64_t kib, pages;
    *out = (stk_limits){
        .memory_limit_bytes = STK_LIMIT_NONE,
        .memory_available_bytes = STK_LIMIT_NONE,
        .address_space_limit_bytes = resource_limit(RLIMIT_AS),
        .locked_memory_limit_bytes = resource_limit(RLIMIT_MEMLOCK),
    };
    if (stk_sysfs_field(&kib, "MemTotal:", "%s/proc/meminfo", root))
        out->memory_total_bytes = kib << 10;
    else
        stk_warn(log, "%s/proc/meminfo: cannot be read: the machine's memory is not known", root);
    if (stk_sysfs_field(&kib, "MemAvailable:", "%s/proc/meminfo", root))
        out->memory_available_bytes = kib << 10;
    climb(find_tree(root, "memory"), take_memory, out);
    climb(find_tree(root, NULL), take_memory, out);
    climb(find_tree(root, "cpu"), take_cpu, out);
    climb(find_tree(root, NULL), take_cpu, out);
    if (out->address_space_limit_bytes != STK_LIMIT_NONE) {
        uint64_t used = 0;
        if (stk_sysfs_u64(&pages, "/proc/self/statm"))
            used = pages * (uint64_t)sysconf(_SC_PAGESIZE);
        uint64_t limit = out->address_space_limit_bytes;
        out->memory_available_bytes = min_u64(out->memory_available_bytes,
                                              limit - min_u64(used, limit));
    }
    if (out->memory_available_bytes == STK_LIMIT_NONE)
        out->memory_available_bytes = out->memory_total_bytes;
}
