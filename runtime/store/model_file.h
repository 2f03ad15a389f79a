// store/model_file.h: reads byte ranges of a model's files.
#ifndef STK_STORE_MODEL_FILE_H
#define STK_STORE_MODEL_FILE_H

#include "model/gguf.h"

// Thread-safety: safe after open.
typedef struct stk_model_file stk_model_file;

// Opens every split of `gguf` (borrowed). STK_IO, STK_NO_MEMORY.
STK_CHECKED stk_status stk_model_file_open(const stk_gguf *gguf, const stk_log *log,
                                           stk_model_file **out);
void stk_model_file_close(stk_model_file **file);

// Reads bytes [offset, offset+size) of a tensor into `to`. STK_IO names file, offset and errno.
STK_CHECKED stk_status stk_model_file_read(const stk_model_file *file,
                                           const stk_gguf_tensor *tensor, uint64_t offset_bytes,
                                           uint64_t size_bytes, void *to);
// Tells the system that the tensor's bytes will not be read through its cache again.
void stk_model_file_forget(const stk_model_file *file, const stk_gguf_tensor *tensor);

#endif
