// topology/probe_file.h: the file a disk measurement reads: the one given, or a temporary one.
#ifndef STK_TOPOLOGY_PROBE_FILE_H
#define STK_TOPOLOGY_PROBE_FILE_H

#include "base/log.h"
#include <stdbool.h>
#include <stdint.h>

enum { STK_PROBE_FILE_BYTES_MIN = 64 << 20 }; // smaller ones live in the device's own cache

typedef struct stk_probe_file {
    int fd; // read only, O_DIRECT where the filesystem allows
    uint64_t size_bytes;
    bool is_direct, is_temporary;
} stk_probe_file;

// path: a regular file of at least STK_PROBE_FILE_BYTES_MIN without holes is opened for reading;
// else a temporary file of random bytes is written into that folder (or the file's), at most
// bytes_max and an eighth of the free space. It has no name or loses it at once, so that nothing
// is left even after a crash. STK_IO, STK_NO_MEMORY. STK_UNSUPPORTED: too little
// space, or the folder takes no file; a warning says so.
STK_CHECKED stk_status stk_probe_file_open(const char *path, uint64_t bytes_max, const stk_log *log,
                                           stk_probe_file *out);
void stk_probe_file_close(stk_probe_file *file);

#endif
