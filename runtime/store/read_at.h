// store/read_at.h: a read that goes on until it has what it needs.
#ifndef STK_STORE_READ_AT_H
#define STK_STORE_READ_AT_H

#include <stdint.h>

// Reads at least `needed` of to[0..bytes) from byte `at` on. A direct read asks for whole blocks
// and needs less where the file ends within one: past its end the offset would not be aligned.
// Returns 0 or errno; ENODATA: the file ends too early. Thread-safety: safe.
int stk_read_at(int fd, void *to, uint64_t bytes, uint64_t needed, uint64_t at);

#endif
