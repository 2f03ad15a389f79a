#include "topology/block.h"

#include "topology/sysfs.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { STACK_DEPTH_MAX = 8 }; // LVM over LUKS over RAID over a partition is four

const char *stk_block_kind_name(stk_block_kind kind)
{
    static const char *const names[] = {"none", "nvme", "ssd", "hdd", "virtual"};
    return names[kind];
}

// Cuts what does not fit: names of devices and models are for people.
static void copy_name(char *to, size_t size, const char *from)
{
    size_t length = strlen(from);
    length = length < size ? length : size - 1;
    memcpy(to, from, length);
    to[length] = '\0';
}

// The last component of a link's target, or "" .
static void link_name(const char *path, char *out, size_t size)
{
    char *real = realpath(path, NULL);
    const char *slash = real ? strrchr(real, '/') : NULL;
    copy_name(out, size, slash ? slash + 1 : "");
    free(real);
}

// The first entry of DEVICE/slaves that is not a dot file: what a mapping or a RAID stands on.
static bool first_slave(const char *device, char *out, size_t size)
{
    char path[STK_SYSFS_PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/slaves", device);
    DIR *folder = length > 0 && (size_t)length < sizeof path ? opendir(path) : NULL;
    if (!folder)
        return false;
    char first[STK_BLOCK_NAME_BYTES] = "";
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.' && strlen(entry->d_name) < sizeof first &&
            (!*first || strcmp(entry->d_name, first) < 0)) // readdir's order means nothing
            copy_name(first, sizeof first, entry->d_name);
    closedir(folder);
    length = snprintf(out, size, "%s/slaves/%s", device, first);
    return *first && length > 0 && (size_t)length < size;
}

// The whole disk's folder in sysfs from that of any block device. False: there is none.
static bool find_disk(char *device, size_t size, stk_block_device *out)
{
    uint64_t partition;
    char next[STK_SYSFS_PATH_BYTES];
    for (int depth = 0; depth < STACK_DEPTH_MAX; depth++) {
        char *real = realpath(device, NULL);
        if (!real)
            return false;
        copy_name(device, size, real);
        free(real);
        if (stk_sysfs_u64(&partition, "%s/partition", device)) {
            *strrchr(device, '/') = '\0'; // a partition's folder is inside its disk's
            continue;
        }
        if (!first_slave(device, next, sizeof next))
            return true;
        out->is_stacked = true;
        copy_name(device, size, next);
    }
    return true;
}

static bool is_pci_address(const char *text)
{
    unsigned domain, bus, slot, function;
    return sscanf(text, "%4x:%2x:%2x.%1x", &domain, &bus, &slot, &function) == 4;
}

// The nearest PCI function and NUMA node above the disk: /sys/devices/pci0000:00/0000:00:02.0/...
static void find_controller(const char *device, stk_block_device *out)
{
    char path[STK_SYSFS_PATH_BYTES], text[STK_SYSFS_TEXT_BYTES];
    copy_name(path, sizeof path, device);
    for (char *slash; (slash = strrchr(path, '/')) && slash != path; *slash = '\0') {
        int node;
        if (out->numa_node < 0 && stk_sysfs_text(text, sizeof text, "%s/numa_node", path) &&
            sscanf(text, "%d", &node) == 1)
            out->numa_node = node;
        if (!*out->pci_address && is_pci_address(slash + 1))
            copy_name(out->pci_address, sizeof out->pci_address, slash + 1);
    }
}

static stk_block_kind kind_of(const stk_block_device *d)
{
    static const char *const virtual_names[] = {"vd", "xvd", "loop", "ram", "zram", "nbd", "rbd"};
    if (strncmp(d->name, "nvme", 4) == 0)
        return STK_BLOCK_NVME;
    for (size_t i = 0; i < sizeof virtual_names / sizeof *virtual_names; i++)
        if (strncmp(d->name, virtual_names[i], strlen(virtual_names[i])) == 0)
            return STK_BLOCK_VIRTUAL;
    return d->is_rotational ? STK_BLOCK_HDD : STK_BLOCK_SSD;
}

void stk_block_device_of_number(const char *root, uint32_t major_number, uint32_t minor_number,
                                stk_block_device *out)
{
    char device[STK_SYSFS_PATH_BYTES];
    uint64_t value;
    *out = (stk_block_device){.numa_node = -1};
    snprintf(device, sizeof device, "%s/sys/dev/block/%u:%u", root, major_number, minor_number);
    if (!find_disk(device, sizeof device, out))
        return;
    link_name(device, out->name, sizeof out->name);
    char number[STK_SYSFS_TEXT_BYTES];
    if (stk_sysfs_text(number, sizeof number, "%s/dev", device))
        sscanf(number, "%u:%u", &out->major_number, &out->minor_number);
    stk_sysfs_text(out->model, sizeof out->model, "%s/device/model", device);
    if (stk_sysfs_u64(&value, "%s/queue/rotational", device))
        out->is_rotational = value != 0;
    if (stk_sysfs_u64(&value, "%s/size", device) && value < UINT64_MAX / 512)
        out->size_bytes = value * 512; // always in units of 512, whatever the sector
    if (stk_sysfs_u64(&value, "%s/queue/logical_block_size", device))
        out->sector_bytes = (uint32_t)value;
    if (stk_sysfs_u64(&value, "%s/queue/max_sectors_kb", device) && value < UINT32_MAX / 1024)
        out->request_bytes_max = (uint32_t)value * 1024;
    if (stk_sysfs_u64(&value, "%s/queue/nr_requests", device))
        out->queue_depth_max = (uint32_t)value;
    find_controller(device, out);
    out->kind = kind_of(out);
}

typedef struct mount {
    char filesystem[STK_BLOCK_NAME_BYTES];
    char source[STK_SYSFS_PATH_BYTES];
} mount;

// The mount that holds the file, by its id: btrfs and overlays give their files device numbers that
// stand nowhere, but the mount's source may be a disk.
static bool find_mount(const char *path, mount *out)
{
    uint64_t wanted;
    int fd = open(path, O_PATH | O_CLOEXEC);
    bool is_found = fd >= 0 && stk_sysfs_field(&wanted, "mnt_id:", "/proc/self/fdinfo/%d", fd);
    if (fd >= 0)
        close(fd);
    if (!is_found)
        return false;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t capacity = 0;
    is_found = false;
    while (file && !is_found && getline(&line, &capacity, file) > 0) {
        const char *rest = strstr(line, " - ");
        is_found = rest && strtoull(line, NULL, 10) == wanted &&
                   sscanf(rest, " - %63s %1023s", out->filesystem, out->source) == 2;
    }
    free(line);
    if (file)
        fclose(file);
    return is_found;
}

stk_status stk_block_device_of_path(const char *path, const stk_log *log, stk_block_device *out)
{
    struct stat info, source;
    mount m = {"", ""};
    if (stat(path, &info) != 0)
        return stk_fail(log, STK_IO, "%s: %s", path, strerror(errno));
    dev_t number = S_ISBLK(info.st_mode) ? info.st_rdev : info.st_dev;
    bool has_mount = find_mount(path, &m);
    if (major(number) == 0 && has_mount && stat(m.source, &source) == 0 && S_ISBLK(source.st_mode))
        number = source.st_rdev;
    stk_block_device_of_number("", major(number), minor(number), out);
    snprintf(out->filesystem, sizeof out->filesystem, "%s", m.filesystem);
    return STK_OK;
}
