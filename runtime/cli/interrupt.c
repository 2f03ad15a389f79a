#include "cli/interrupt.h"

#include "cli/commands.h"
#include <signal.h>
#include <stddef.h>

static atomic_int interrupted; // a signal handler has nothing else to write to
static atomic_int last_signal;

static void on_interrupt(int signal_number)
{
    atomic_store_explicit(&last_signal, signal_number, memory_order_relaxed);
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
    sigaction(SIGTERM, &action, NULL);
    struct sigaction before;
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

void stk_interrupt_end_at_once(void)
{
    signal(SIGINT, SIG_DFL);
    stk_interrupt_only_from_keyboard();
}

void stk_interrupt_only_from_keyboard(void)
{
    struct sigaction now;
    signal(SIGTERM, SIG_DFL);
    if (sigaction(SIGHUP, NULL, &now) == 0 && now.sa_handler != SIG_IGN)
        signal(SIGHUP, SIG_DFL);
}

const atomic_int *stk_interrupt_flag(void)
{
    return &interrupted;
}

void stk_interrupt_clear(void)
{
    atomic_store_explicit(&interrupted, 0, memory_order_relaxed);
}

int stk_interrupt_exit_code(int exit_code)
{
    int number = atomic_load_explicit(&last_signal, memory_order_relaxed);
    return exit_code == STK_EXIT_INTERRUPTED && number ? 128 + number : exit_code;
}
