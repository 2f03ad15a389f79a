// base/random.h: xoshiro256** seeded by splitmix64: the same numbers on every machine.
//
// Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018. Not for secrets.
#ifndef STK_BASE_RANDOM_H
#define STK_BASE_RANDOM_H

#include <stdint.h>

// Thread-safety: none; one per user.
typedef struct stk_random {
    uint64_t state[4]; // never all zero once seeded
} stk_random;

static inline stk_random stk_random_seeded(uint64_t seed)
{
    stk_random random;
    for (int i = 0; i < 4; i++) { // splitmix64
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        random.state[i] = z ^ z >> 31;
    }
    return random;
}

static inline uint64_t stk_random_u64(stk_random *random)
{
    uint64_t *s = random->state;
    uint64_t x = s[1] * 5;
    uint64_t result = (x << 7 | x >> 57) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

// Uniform in [0, 1), 53 bits.
static inline double stk_random_unit(stk_random *random)
{
    return (double)(stk_random_u64(random) >> 11) * 0x1p-53;
}

#endif
