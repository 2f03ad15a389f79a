#include "base/status.h"

const char *stk_status_name(stk_status status)
{
    switch (status) {
    case STK_OK:
        return "ok";
    case STK_PENDING:
        return "pending";
    case STK_INVALID:
        return "invalid argument";
    case STK_NO_MEMORY:
        return "out of memory";
    case STK_BUSY:
        return "busy";
    case STK_CANCELLED:
        return "cancelled";
    case STK_UNSUPPORTED:
        return "unsupported";
    case STK_FORMAT:
        return "malformed file";
    case STK_IO:
        return "input/output error";
    case STK_DEVICE_LOST:
        return "device lost";
    case STK_PEER_LOST:
        return "peer lost";
    }
    return "unknown status";
}
