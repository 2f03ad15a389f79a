// topology/probe_uring_stubs.c: in place of probe_uring.c where liburing is missing.
#include "topology/probe_disk_impl.h"

static stk_status run(const stk_disk_pattern *pattern, const stk_log *log, stk_disk_result *out)
{
    (void)pattern;
    (void)log;
    (void)out;
    return STK_UNSUPPORTED;
}

const stk_disk_engine stk_disk_uring = {"io_uring", run};
