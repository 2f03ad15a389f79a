#include "topology/probe_sum.h"

// One body, compiled for several instruction sets; the compiler splits the vectors as needed.
// Four independent sums hide the latency of the adds.
typedef uint64_t vector __attribute__((vector_size(64), aligned(64)));
enum { LANES = 8, UNROLL = 4 };

static inline __attribute__((always_inline)) uint64_t sum_body(const uint64_t *data, size_t count)
{
    const vector *v = (const vector *)(const void *)data;
    vector a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < count / LANES; i += UNROLL) {
        a += v[i];
        b += v[i + 1];
        c += v[i + 2];
        d += v[i + 3];
    }
    a += b;
    c += d;
    a += c;
    uint64_t sum = 0;
    for (int lane = 0; lane < LANES; lane++)
        sum += a[lane];
    return sum;
}

static uint64_t sum_plain(const uint64_t *data, size_t count)
{
    return sum_body(data, count);
}

stk_sum_fn stk_sum_plain(void)
{
    return sum_plain;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t sum_avx2(const uint64_t *data, size_t count)
{
    return sum_body(data, count);
}

__attribute__((target("avx512f"))) static uint64_t sum_avx512(const uint64_t *data, size_t count)
{
    return sum_body(data, count);
}
#endif

stk_sum_fn stk_sum_best(const char **name)
{
    const char *ignored;
    name = name ? name : &ignored;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        *name = "avx512";
        return sum_avx512;
    }
    if (__builtin_cpu_supports("avx2")) {
        *name = "avx2";
        return sum_avx2;
    }
#endif
    *name = "plain";
    return sum_plain;
}
