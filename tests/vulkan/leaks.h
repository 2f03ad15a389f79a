// tests/vulkan/leaks.h: Mesa and the validation layer keep some memory until the end.
#ifndef STK_TESTS_LEAKS_H
#define STK_TESTS_LEAKS_H

const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libvulkan\nleak:libVkLayer\nleak:libLLVM\nleak:<unknown module>\n";
}

#endif
