// The table that the program finds in this library.
#include "cluster/mpi/cluster_impl.h"

// The only name that leaves the library.
__attribute__((visibility("default"))) const stk_cluster_ops stk_cluster_mpi_ops = {
    .protocol = STK_CLUSTER_PROTOCOL,
    .struct_bytes = sizeof(stk_cluster_ops),
    .open = stk_mpi_open,
    .close = stk_mpi_close,
    .gather = stk_mpi_gather,
    .share = stk_mpi_share,
    .reserve = stk_mpi_reserve,
    .send_begin = stk_mpi_send_begin,
    .send_end = stk_mpi_send_end,
    .receive = stk_mpi_receive,
    .poll = stk_mpi_poll,
    .bulk_send = stk_mpi_bulk_send,
    .bulk_expect = stk_mpi_bulk_expect,
    .bulk_arrived = stk_mpi_bulk_arrived,
    .bulk_forget = stk_mpi_bulk_forget,
};
