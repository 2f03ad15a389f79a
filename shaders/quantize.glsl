// Section 1 of docs/arithmetic.md for one value of a block whose largest magnitude is known.

float quantize_factor(float m)
{
    precise float r = uintBitsToFloat(0x7EF311C7u - floatBitsToUint(m));
    for (int i = 0; i < 3; i++) {
        precise float t = m * r;
        t = 2.0 - t;
        r = r * t;
    }
    precise float k = r * 127.0;
    return k;
}

bool quantize_drops(float m)
{
    return m < uintBitsToFloat(0x17800000u); // 2^-80
}

float quantize_scale(float m)
{
    precise float d = m * uintBitsToFloat(0x3c010204u); // 1/127
    return quantize_drops(m) ? 0.0 : d;
}

int quantize_value(float x, float m)
{
    if (quantize_drops(m))
        return 0;
    precise float scaled = x * quantize_factor(m);
    return int(clamp(roundEven(scaled), -127.0, 127.0));
}
