// exp as docs/arithmetic.md section 6 writes it, to the bit on every device: Vulkan lets fma() round
// twice, so here it is made of additions and multiplications. For a few numbers a row, such as a
// router's. Denormals may be lost in between, where they no longer matter.

// a + b and what rounding took from it (Knuth).
vec2 two_sum(float a, float b)
{
    precise float s = a + b, b_in_s = s - a;
    precise float a_in_s = s - b_in_s;
    precise float from_a = a - a_in_s, from_b = b - b_in_s;
    precise float e = from_a + from_b;
    return vec2(s, e);
}

// a * b and what rounding took from it (Dekker), halves of 12 bits.
vec2 two_product(float a, float b)
{
    float ah = uintBitsToFloat(floatBitsToUint(a) & 0xfffff000u);
    float bh = uintBitsToFloat(floatBitsToUint(b) & 0xfffff000u);
    precise float al = a - ah, bl = b - bh, p = a * b;
    precise float hh = ah * bh, hl = ah * bl, lh = al * bh, ll = al * bl;
    precise float e = hh - p;
    e = e + hl;
    e = e + lh;
    e = e + ll;
    return vec2(p, e);
}

// fma(a, b, c) with one rounding (Boldo and Melquiond: the small parts are summed rounding to odd).
float exact_fma(float a, float b, float c)
{
    vec2 u = two_product(a, b), t = two_sum(c, u.y), v = two_sum(u.x, t.x);
    vec2 small = two_sum(t.y, v.y);
    uint odd = floatBitsToUint(small.x);
    if (small.y != 0 && (odd & 1u) == 0)
        odd += (small.y > 0) == (small.x > 0) ? 1u : 0xffffffffu;
    precise float result = v.x + uintBitsToFloat(odd);
    return result;
}

float exact_exp(float x)
{
    x = min(x, 88.0);
    if (!(x >= -87.0))
        return 0.0;
    precise float turns = x * 1.44269504;
    float n = roundEven(turns);
    float r = exact_fma(n, 2.12194440e-4, exact_fma(n, -0.693359375, x));
    precise float square = r * r;
    float p = exact_fma(1.9875691500e-4, r, 1.3981999507e-3);
    p = exact_fma(p, r, 8.3334519073e-3);
    p = exact_fma(p, r, 4.1665795894e-2);
    p = exact_fma(p, r, 1.6666665459e-1);
    p = exact_fma(p, r, 5.0000001201e-1);
    precise float y = exact_fma(p, square, r) + 1.0;
    return uintBitsToFloat(floatBitsToUint(y) + (uint(int(n)) << 23));
}
