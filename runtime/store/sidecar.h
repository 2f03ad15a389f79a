// store/sidecar.h: MODEL.stoker, the experts of a model packed in kernel layout.
//
// An optimisation, never a requirement: one page-aligned run per expert instead of three slices,
// and no work on arrival. Tied to its GGUF by size, modification time and a hash of its header; a
// checksum for each expert. Anything stale or damaged is said once and the GGUF is used instead.
//
//   page 0          header: magic, version, identity of the GGUF, geometry, count packed, hash
//   then            checksums, 8 bytes per expert, padded to a page
//   then            the experts, layer by layer, each its layout's slot_bytes
#ifndef STK_STORE_SIDECAR_H
#define STK_STORE_SIDECAR_H

#include "base/log.h"
#include "model/gguf.h"
#include "model/model.h"
#include <stdatomic.h>
#include <stdbool.h>

// Thread-safety: has, fd, offset, path and verify may be called from any thread; drop under the
// caller's lock.
typedef struct stk_sidecar stk_sidecar;

// MODEL.gguf -> MODEL.stoker, in out[out_bytes]; false when it does not fit.
bool stk_sidecar_default_path(const char *model_path, char *out, size_t out_bytes);

// Opens `path` and checks that it belongs to the GGUF. What is wrong with it is a warning, but that
// it does not exist is not logged. STK_IO: it cannot be read; STK_FORMAT: not a sidecar, or of
// another version; STK_INVALID: of another model or of an older copy of it.
STK_CHECKED stk_status stk_sidecar_open(const char *path, const stk_gguf *gguf,
                                        const stk_model *model, bool direct, const stk_log *log,
                                        stk_sidecar **out);
void stk_sidecar_close(stk_sidecar **sidecar);

// Entries are layer * expert_count + expert, layers counted as in the model it was opened with.
bool stk_sidecar_has(const stk_sidecar *sidecar, uint32_t entry);
int stk_sidecar_fd(const stk_sidecar *sidecar);
const char *stk_sidecar_path(const stk_sidecar *sidecar);
uint64_t stk_sidecar_offset(const stk_sidecar *sidecar, uint32_t entry);
bool stk_sidecar_verify(const stk_sidecar *sidecar, uint32_t entry, const void *slot);
void stk_sidecar_drop(stk_sidecar *sidecar, uint32_t entry); // has() is false from now on

// Writes a sidecar for the model, or goes on where an interrupted one stopped (PATH.partial). The
// finished file appears under `path` at once. cancel: stops when non-zero, keeping what there is.
// STK_IO (disk full included: the partial file stays, to be resumed), STK_NO_MEMORY, STK_CANCELLED,
// STK_BUSY (somebody else writes it now), STK_INVALID (`path` is a file that is not a sidecar).
STK_CHECKED stk_status stk_sidecar_write(const char *path, const stk_gguf *gguf,
                                         const stk_model *model, const stk_log *log,
                                         const atomic_int *cancel);

#endif
