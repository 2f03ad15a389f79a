// store/model_file.h: reads byte ranges of a model's files, past the page cache if asked.
#ifndef STK_STORE_MODEL_FILE_H
#define STK_STORE_MODEL_FILE_H

#include "model/gguf.h"

enum { STK_DIRECT_ALIGN = 4096 }; // of offset, length and address of O_DIRECT reads

// Thread-safety: safe after open.
typedef struct stk_model_file stk_model_file;

// Opens every split of `gguf` (borrowed). With `direct` reads leave the page cache alone, where the
// file system can; where it cannot a line is logged. STK_IO, STK_NO_MEMORY.
STK_CHECKED stk_status stk_model_file_open(const stk_gguf *gguf, bool direct, const stk_log *log,
                                           stk_model_file **out);
void stk_model_file_close(stk_model_file **file); // sets it to NULL; NULL is allowed

bool stk_model_file_is_direct(const stk_model_file *file);
int stk_model_file_fd(const stk_model_file *file, uint32_t file_index);

// Reads bytes [offset, offset+size) of a tensor into `to`. Direct reads allocate a buffer
// meanwhile. STK_IO names file, offset and errno.
STK_CHECKED stk_status stk_model_file_read(const stk_model_file *file,
                                           const stk_gguf_tensor *tensor, uint64_t offset_bytes,
                                           uint64_t size_bytes, void *to);

// The same without allocating: reads into the caller's pages, [stk_model_file_view_bytes(size)] and
// aligned to STK_DIRECT_ALIGN, and points *out at the tensor's bytes in them.
STK_CHECKED stk_status stk_model_file_view(const stk_model_file *file,
                                           const stk_gguf_tensor *tensor, uint64_t offset_bytes,
                                           uint64_t size_bytes, void *pages, const void **out);
uint64_t stk_model_file_view_bytes(uint64_t size_bytes);

#endif
