// base/pause.h: the hint a spinning thread gives its core.
#ifndef STK_BASE_PAUSE_H
#define STK_BASE_PAUSE_H

static inline void stk_cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif
