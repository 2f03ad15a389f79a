// exp as docs/arithmetic.md section 6 writes it; a device may not fuse where the law says fma.
float stk_exp(float x)
{
    x = min(x, 88.0);
    if (!(x >= -87.0))
        return 0.0;
    precise float n = roundEven(x * 1.44269504);
    precise float r = fma(n, -0.693359375, x);
    r = fma(n, 2.12194440e-4, r);
    precise float p = 1.9875691500e-4;
    p = fma(p, r, 1.3981999507e-3);
    p = fma(p, r, 8.3334519073e-3);
    p = fma(p, r, 4.1665795894e-2);
    p = fma(p, r, 1.6666665459e-1);
    p = fma(p, r, 5.0000001201e-1);
    precise float y = fma(p, r * r, r) + 1.0;
    return uintBitsToFloat(floatBitsToUint(y) + (uint(int(n)) << 23));
}
