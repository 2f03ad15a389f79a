// store/io_impl.h: what a way of reading provides. Only io*.c include it.
#ifndef STK_STORE_IO_IMPL_H
#define STK_STORE_IO_IMPL_H

#include "store/io.h"

typedef struct stk_io_ops {
    const char *name;
    stk_status (*open)(const stk_io_options *options, void **state);
    void (*close)(void *state);
    void (*kick)(void *state);
} stk_io_ops;

extern const stk_io_ops stk_io_uring_ops;
extern const stk_io_ops stk_io_threads_ops;

#endif
