// The file around a driver's pipeline cache:
//
//   "stkvkpc1", driver UUID (16), cache UUID (16), data bytes (u64), FNV-1a of the data (u64), data
//
// Drivers check little of what they are given, so anything that is not whole and of this very
// driver is ignored.
#include "vulkan/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 56, DATA_BYTES_MAX = 256 << 20 };

static uint64_t fnv1a(const uint8_t *p, size_t n)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static void make_header(const stk_vk_device_info *info, const void *data, uint64_t bytes,
                        uint8_t header[HEADER_BYTES])
{
    uint64_t hash = fnv1a(data, bytes);
    memcpy(header, "stkvkpc1", 8);
    memcpy(header + 8, info->driver_uuid, 16);
    memcpy(header + 24, info->cache_uuid, 16);
    memcpy(header + 40, &bytes, 8);
    memcpy(header + 48, &hash, 8);
}

void *stk_vk_cache_read(const char *path, const stk_vk_device_info *info, size_t *bytes)
{
    uint8_t header[HEADER_BYTES], expected[HEADER_BYTES];
    uint64_t size = 0;
    uint8_t *data = NULL;
    *bytes = 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    if (fread(header, 1, HEADER_BYTES, file) != HEADER_BYTES)
        goto out;
    memcpy(&size, header + 40, 8);
    if (size == 0 || size > DATA_BYTES_MAX)
        goto out;
    data = malloc(size);
    if (!data)
        goto out;
    bool whole = fread(data, 1, size, file) == size;
    if (whole)
        make_header(info, data, size, expected);
    if (!whole || memcmp(header, expected, HEADER_BYTES) != 0) {
        free(data);
        data = NULL;
        goto out;
    }
    *bytes = size;
out:
    fclose(file);
    return data;
}

// Written beside and renamed, so that a reader never sees half a file.
void stk_vk_cache_write(const char *path, const stk_vk_device_info *info, const void *data,
                        size_t bytes, const stk_log *log)
{
    uint8_t header[HEADER_BYTES];
    size_t length = strlen(path) + 5;
    char *beside = malloc(length);
    if (!beside)
        return;
    snprintf(beside, length, "%s.new", path);
    make_header(info, data, bytes, header);
    FILE *file = fopen(beside, "wb");
    bool good = file && fwrite(header, 1, HEADER_BYTES, file) == HEADER_BYTES &&
                fwrite(data, 1, bytes, file) == bytes;
    good = file && fclose(file) == 0 && good;
    if (!good || rename(beside, path) != 0) {
        stk_warn(log, "%s: cannot keep the compiled shaders: %s", path, strerror(errno));
        remove(beside);
    }
    free(beside);
}
