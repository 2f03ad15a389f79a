#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>

static atomic_int interrupted; // a signal handler has nothing else to write to

static void on_interrupt(int signal_number)
{
    if (atomic_fetch_add_explicit(&interrupted, 1, memory_order_relaxed) > 0) {
        signal(signal_number, SIG_DFL);
        raise(signal_number); // delivered when the handler returns
    }
}

void stk_interrupt_install(void)
{
    struct sigaction action = {.sa_handler = on_interrupt}; // no SA_RESTART: reads end with EINTR
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

void stk_interrupt_end_at_once(void)
{
    signal(SIGINT, SIG_DFL);
}

const atomic_int *stk_interrupt_flag(void)
{
    return &interrupted;
}

void stk_interrupt_clear(void)
{
    atomic_store_explicit(&interrupted, 0, memory_order_relaxed);
}
