// Division and square root rounded to nearest even, which Vulkan does not ask of a device: by
// integers, for positive normal numbers and results; what is smaller becomes 0. For one number a
// row, such as a norm's.

float exact_round(uint bits25, bool rest, int exponent) // bits25: 24 and one more
{
    uint value = bits25 >> 1;
    if ((bits25 & 1u) != 0 && (rest || (value & 1u) != 0))
        value++;
    if (exponent <= -127)
        return 0.0;
    return uintBitsToFloat((uint(exponent + 127) << 23) + (value - 0x800000u));
}

float exact_div(float a, float b)
{
    uint ua = floatBitsToUint(a), ub = floatBitsToUint(b);
    uint rest = (ua & 0x7fffffu) | 0x800000u, by = (ub & 0x7fffffu) | 0x800000u, bits = 0;
    int exponent = int(ua >> 23) - int(ub >> 23);
    if (ua < 0x800000u)
        return 0.0;
    if (rest < by) {
        rest <<= 1;
        exponent--;
    }
    for (int i = 0; i < 25; i++) {
        bits <<= 1;
        if (rest >= by) {
            rest -= by;
            bits |= 1u;
        }
        rest <<= 1;
    }
    return exact_round(bits, rest != 0, exponent);
}

float exact_sqrt(float a)
{
    uint ua = floatBitsToUint(a), value = (ua & 0x7fffffu) | 0x800000u, rest = 0, root = 0;
    int exponent = int(ua >> 23) - 127;
    if (ua < 0x800000u)
        return 0.0;
    if ((exponent & 1) != 0) {
        value <<= 1;
        exponent--;
    }
    for (int at = 48; at >= 0; at -= 2) { // two bits of value << 25 each
        uint two = at >= 25 ? value >> (at - 25) : at == 24 ? value << 1 : 0u;
        rest = rest << 2 | (two & 3u);
        root <<= 1;
        uint trial = root << 1 | 1u;
        if (rest >= trial) {
            rest -= trial;
            root |= 1u;
        }
    }
    return exact_round(root, rest != 0, exponent / 2);
}
