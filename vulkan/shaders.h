// vulkan/shaders.h: the shaders by name.
#ifndef STK_VULKAN_SHADERS_H
#define STK_VULKAN_SHADERS_H

typedef enum stk_vk_shader {
#define STK_SHADER(name, source, buffers, constants, dot, flags) STK_VK_SHADER_##name,
#include "shaders/shaders.def"
#undef STK_SHADER
    STK_VK_SHADER_COUNT
} stk_vk_shader;

#endif
