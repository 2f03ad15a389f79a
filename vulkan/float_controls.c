// Float controls are optional, and a module that asks for one a device lacks is invalid. So the
// shaders are compiled without them and the words are put in here, for the device at hand.
#include "vulkan/impl.h"

#include <string.h>

// SPIR-V: a module is five words, then instructions of (length << 16 | opcode) and operands,
// grouped in a fixed order. Float controls are part of SPIR-V 1.4, so no extension is named.
enum {
    HEADER_WORDS = 5,
    OP_ENTRY_POINT = 15,
    OP_EXECUTION_MODE = 16,
    OP_CAPABILITY = 17,
    CAPABILITY_DENORM_PRESERVE = 4464,
    CAPABILITY_RTE = 4467,
    MODE_DENORM_PRESERVE = 4459,
    MODE_RTE = 4462,
};

static size_t put_capability(uint32_t *out, size_t n, uint32_t capability)
{
    out[n++] = 2u << 16 | OP_CAPABILITY;
    out[n++] = capability;
    return n;
}

static size_t put_mode(uint32_t *out, size_t n, uint32_t entry, uint32_t mode)
{
    out[n++] = 4u << 16 | OP_EXECUTION_MODE;
    out[n++] = entry;
    out[n++] = mode;
    out[n++] = 32;
    return n;
}

size_t stk_vk_add_float_controls(const uint32_t *code, size_t words, bool rte, bool denorms,
                                 uint32_t *out)
{
    size_t n = HEADER_WORDS, at = HEADER_WORDS;
    uint32_t entry = 0;
    memcpy(out, code, HEADER_WORDS * sizeof *code);
    if (rte)
        n = put_capability(out, n, CAPABILITY_RTE);
    if (denorms)
        n = put_capability(out, n, CAPABILITY_DENORM_PRESERVE);
    while (at < words) {
        uint32_t op = code[at] & 0xffffu, length = code[at] >> 16;
        if (length == 0 || length > words - at)
            break; // not reached: the modules are our own
        if (op == OP_ENTRY_POINT)
            entry = code[at + 2];
        memcpy(out + n, code + at, length * sizeof *code);
        n += length;
        at += length;
        // the modes follow the entry point and its own modes in any order
        if (op == OP_ENTRY_POINT && rte)
            n = put_mode(out, n, entry, MODE_RTE);
        if (op == OP_ENTRY_POINT && denorms)
            n = put_mode(out, n, entry, MODE_DENORM_PRESERVE);
    }
    return n;
}
