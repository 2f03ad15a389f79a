#include "store/usage_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

typedef struct usage_header {
    char magic[8]; // "STKUSAGE"
    uint32_t version, layer_count, expert_count, tokens;
} usage_header;

static usage_header header_of(uint32_t layer_count, uint32_t expert_count)
{
    usage_header h = {.version = 1, .layer_count = layer_count, .expert_count = expert_count};
    memcpy(h.magic, "STKUSAGE", sizeof h.magic);
    return h;
}

static uint64_t hash_of(const usage_header *h, const float *rates, size_t bytes)
{
    return XXH3_64bits_withSeed(rates, bytes, XXH3_64bits(h, sizeof *h));
}

uint32_t stk_usage_read(const char *path, uint32_t layer_count, uint32_t expert_count,
                        const stk_log *log, float *rates)
{
    size_t count = (size_t)layer_count * expert_count;
    usage_header want = header_of(layer_count, expert_count), h;
    uint64_t hash;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    bool is_good = fread(&h, sizeof h, 1, f) == 1 &&
                   memcmp(h.magic, want.magic, sizeof h.magic) == 0 && h.version == want.version &&
                   h.layer_count == layer_count && h.expert_count == expert_count &&
                   fread(rates, sizeof *rates, count, f) == count &&
                   fread(&hash, sizeof hash, 1, f) == 1 &&
                   hash == hash_of(&h, rates, count * sizeof *rates);
    fclose(f);
    if (!is_good)
        stk_info(log, "%s: not a record of this model's experts; ignored", path);
    return is_good ? h.tokens : 0;
}

void stk_usage_write(const char *path, uint32_t layer_count, uint32_t expert_count,
                     const stk_log *log, const float *rates, uint32_t tokens)
{
    char partial[4096 + 32];
    size_t count = (size_t)layer_count * expert_count;
    usage_header h = header_of(layer_count, expert_count);
    h.tokens = tokens;
    if (tokens == 0 || (size_t)snprintf(partial, sizeof partial, "%s.%ld.tmp", path,
                                        (long)getpid()) >= sizeof partial)
        return;
    uint64_t hash = hash_of(&h, rates, count * sizeof *rates);
    FILE *f = fopen(partial, "we");
    bool good = f && fwrite(&h, sizeof h, 1, f) == 1 &&
                fwrite(rates, sizeof *rates, count, f) == count &&
                fwrite(&hash, sizeof hash, 1, f) == 1;
    good = (!f || fclose(f) == 0) && good;
    if (!good || rename(partial, path) != 0) {
        // A read-only folder is no reason to complain: the next run just starts cold.
        stk_debug(log, "%s: not written: %s", path, strerror(errno));
        if (f)
            unlink(partial);
    }
}
