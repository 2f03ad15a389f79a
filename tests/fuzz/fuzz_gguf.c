// libFuzzer target for the GGUF reader. The input is a whole file; when it opens, every key is
// read through the public functions and the first and last byte of every tensor is read.
#include "model/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(void *user, stk_log_level level, const char *line)
{
    (void)level;
    if (!strstr(line, user)) // every message names the file
        abort();
}

// Returns something that depends on every byte read, so that no read is optimised away.
static uint64_t read_keys(const stk_gguf *gguf)
{
    static const char *const keys[] = {"general.architecture",
                                       "k.u8",
                                       "k.i64",
                                       "k.f32",
                                       "k.words",
                                       "k.bools",
                                       "k.none",
                                       "k.shorts"};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        uint64_t u;
        double f;
        bool b;
        stk_str s;
        stk_gguf_array array;
        if (stk_gguf_u64(gguf, keys[i], &u))
            sum += u;
        if (stk_gguf_f64(gguf, keys[i], &f))
            sum += f > 0;
        if (stk_gguf_bool(gguf, keys[i], &b))
            sum += b;
        if (stk_gguf_string(gguf, keys[i], &s) && s.len_bytes)
            sum += (uint8_t)s.data[0] + (uint8_t)s.data[s.len_bytes - 1];
        if (!stk_gguf_get_array(gguf, keys[i], &array))
            continue;
        for (uint64_t j = 0; j < array.count; j++) {
            if (array.kind == STK_GGUF_STRING && array.strings[j].len_bytes)
                sum += (uint8_t)array.strings[j].data[array.strings[j].len_bytes - 1];
            else if (array.kind != STK_GGUF_STRING)
                sum += (uint64_t)stk_gguf_array_i64(&array, j);
        }
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    const stk_log log = {.write = check_line, .user = path, .level_max = STK_LOG_DEBUG};
    stk_gguf *gguf;
    if (stk_gguf_open(path, &log, &gguf) != STK_OK)
        return 0;
    static volatile uint64_t sink;
    sink = read_keys(gguf);
    (void)sink;
    for (uint32_t i = 0; i < stk_gguf_tensor_count(gguf); i++) {
        const stk_gguf_tensor *tensor = stk_gguf_tensor_at(gguf, i);
        uint8_t byte;
        off_t first = (off_t)tensor->offset_bytes, last = first + (off_t)tensor->size_bytes - 1;
        if (pread(fd, &byte, 1, first) != 1 || pread(fd, &byte, 1, last) != 1)
            abort();
    }
    stk_gguf_close(&gguf);
    return 0;
}
