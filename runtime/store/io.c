#include "store/io_impl.h"

#include <stdlib.h>

struct stk_io {
    const stk_io_ops *ops;
    void *state;
};

stk_status stk_io_open(const stk_io_options *options, stk_io **out)
{
    stk_io *io = calloc(1, sizeof *io);
    if (!io)
        return STK_NO_MEMORY;
    io->ops = options->kind == STK_IO_THREADS ? &stk_io_threads_ops : &stk_io_uring_ops;
    stk_status status = io->ops->open(options, &io->state);
    if (status == STK_UNSUPPORTED && options->kind == STK_IO_AUTO) {
        stk_info(options->log, "io_uring is not available; reading with threads");
        io->ops = &stk_io_threads_ops;
        status = io->ops->open(options, &io->state);
    }
    if (status == STK_OK)
        *out = io;
    else
        free(io);
    return status;
}

void stk_io_close(stk_io **io)
{
    if (!*io)
        return;
    (*io)->ops->close((*io)->state);
    free(*io);
    *io = NULL;
}

void stk_io_kick(stk_io *io)
{
    io->ops->kick(io->state);
}

const char *stk_io_name(const stk_io *io)
{
    return io->ops->name;
}
