#include "cpu/x86/x86.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

bool stk_cpu_enable_amx(void)
{
#if defined(__x86_64__) && defined(__linux__)
    enum { TILE = 1 << 24, INT8 = 1 << 25, REQUEST_COMPONENT = 0x1023, TILE_DATA = 18 };
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & TILE) == 0 || (edx & INT8) == 0)
        return false;
    // Tile data is off until a process asks for it; all its threads then have it.
    return syscall(SYS_arch_prctl, REQUEST_COMPONENT, TILE_DATA) == 0;
#else
    return false;
#endif
}
