// base/status.h: the one result type of every fallible function.
//
// Statuses are grouped by what the caller has to rebuild: nothing (call), the file, the device,
// or the peer. The text of a failure goes to the log at the place that saw it (stk_fail in
// base/log.h); callers only forward the status.
#ifndef STK_BASE_STATUS_H
#define STK_BASE_STATUS_H

#if defined(__GNUC__)
#define STK_CHECKED          __attribute__((warn_unused_result))
#define STK_PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
#define STK_LIKELY(x)        __builtin_expect(!!(x), 1)
#define STK_UNLIKELY(x)      __builtin_expect(!!(x), 0)
#else
#define STK_CHECKED
#define STK_PRINTF(fmt, arg)
#define STK_LIKELY(x)   (x)
#define STK_UNLIKELY(x) (x)
#endif

typedef enum stk_status {
    STK_OK = 0,
    STK_PENDING,     // call: started, not finished; ask again
    STK_INVALID,     // call: an argument or a combination of options is wrong
    STK_NO_MEMORY,   // call: memory or the configured limit is exhausted
    STK_BUSY,        // call: every slot is in use, try later
    STK_CANCELLED,   // call: the user or the caller asked to stop
    STK_UNSUPPORTED, // file: well-formed, but this build does not implement it
    STK_FORMAT,      // file: malformed content
    STK_IO,          // file: the operating system reported an error
    STK_DEVICE_LOST, // device: must be closed and opened again
    STK_PEER_LOST,   // peer: another rank is gone
} stk_status;

// Short lowercase name of a status ("out of memory"). Never NULL.
const char *stk_status_name(stk_status status);

#endif
