// libvulkan and the instance. The library stays loaded: drivers are not made to be unloaded.
#include "vulkan/impl.h"

#include <dlfcn.h>
#include <string.h>

static stk_status open_library(stk_vk_functions *fn, const stk_log *log)
{
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        stk_info(log, "vulkan: no loader (libvulkan.so.1) on this machine");
        return STK_UNSUPPORTED;
    }
    void *symbol = dlsym(library, "vkGetInstanceProcAddr");
    if (!symbol) {
        stk_info(log, "vulkan: libvulkan.so.1 has no vkGetInstanceProcAddr");
        return STK_UNSUPPORTED;
    }
    memcpy(&fn->GetInstanceProcAddr, &symbol, sizeof symbol); // ISO C has no such cast
    return STK_OK;
}

#define LOAD_GLOBAL(name)   fn->name = (PFN_vk##name)fn->GetInstanceProcAddr(NULL, "vk" #name);
#define LOAD_INSTANCE(name) fn->name = (PFN_vk##name)fn->GetInstanceProcAddr(instance, "vk" #name);
#define LOAD_DEVICE(name)   fn->name = (PFN_vk##name)fn->GetDeviceProcAddr(device, "vk" #name);
#define SKIP(name)

static bool load_global_functions(stk_vk_functions *fn)
{
#define FN_GLOBAL              LOAD_GLOBAL
#define FN_INSTANCE            SKIP
#define FN_DEVICE              SKIP
#define STK_VK_FN(level, name) FN_##level(name)
#include "vulkan/functions.def"
#undef FN_GLOBAL
#undef FN_INSTANCE
    return fn->CreateInstance && fn->EnumerateInstanceVersion;
}

static void load_instance_functions(stk_vk_functions *fn, VkInstance instance)
{
#define FN_GLOBAL   SKIP
#define FN_INSTANCE LOAD_INSTANCE
#include "vulkan/functions.def"
#undef FN_INSTANCE
#undef FN_DEVICE
    LOAD_INSTANCE(CreateDebugUtilsMessengerEXT)
    LOAD_INSTANCE(DestroyDebugUtilsMessengerEXT)
}

void stk_vk_load_device_functions(stk_vk_functions *fn, VkDevice device)
{
#define FN_INSTANCE SKIP
#define FN_DEVICE   LOAD_DEVICE
#include "vulkan/functions.def"
    LOAD_DEVICE(GetMemoryHostPointerPropertiesEXT)
}

// Messages of the validation layer. They are also counted, for a test that allows none.
static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                 void *user)
{
    stk_vk_instance *instance = user;
    (void)severity;
    if (types & (VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                 VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT)) {
        atomic_fetch_add(&instance->messages, 1);
        stk_error(instance->log, "vulkan: %s", data->pMessage);
    }
    return VK_FALSE;
}

static bool has_layer(const stk_vk_functions *fn, const char *name)
{
    VkLayerProperties layers[64];
    uint32_t count = 64;
    VkResult result = fn->EnumerateInstanceLayerProperties(&count, layers);
    for (uint32_t i = 0; (result == VK_SUCCESS || result == VK_INCOMPLETE) && i < count; i++)
        if (strcmp(layers[i].layerName, name) == 0)
            return true;
    return false;
}

static bool has_extension(const stk_vk_functions *fn, const char *name)
{
    VkExtensionProperties extensions[128];
    uint32_t count = 128;
    VkResult result = fn->EnumerateInstanceExtensionProperties(NULL, &count, extensions);
    for (uint32_t i = 0; (result == VK_SUCCESS || result == VK_INCOMPLETE) && i < count; i++)
        if (strcmp(extensions[i].extensionName, name) == 0)
            return true;
    return false;
}

static stk_status create(stk_vk_instance *instance, bool validate)
{
    static const char *const layer = "VK_LAYER_KHRONOS_validation";
    static const VkValidationFeatureEnableEXT enables[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    stk_vk_functions *fn = &instance->fn;
    VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = instance,
    };
    VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                        .pNext = &messenger,
                                        .enabledValidationFeatureCount = 1,
                                        .pEnabledValidationFeatures = enables};
    VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                             .pApplicationName = "stoker",
                             .apiVersion = VK_API_VERSION_1_3};
    const char *extensions[2];
    uint32_t extension_count = 0;
    // Drivers on top of another API, such as MoltenVK, are listed only to those who ask.
    bool portability = has_extension(fn, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME);
    if (validate)
        extensions[extension_count++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    if (portability)
        extensions[extension_count++] = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = validate ? &features : NULL,
        .flags = portability
                     ? (VkInstanceCreateFlags)VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR
                     : 0,
        .pApplicationInfo = &app,
        .enabledLayerCount = validate,
        .ppEnabledLayerNames = &layer,
        .enabledExtensionCount = extension_count,
        .ppEnabledExtensionNames = extensions};
    VkResult result = fn->CreateInstance(&info, NULL, &instance->handle);
    if (result != VK_SUCCESS) {
        instance->handle = VK_NULL_HANDLE;
        if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
            stk_info(instance->log, "vulkan: no driver on this machine");
            return STK_UNSUPPORTED;
        }
        return stk_vk_fail(instance->log, result, "cannot create an instance");
    }
    load_instance_functions(fn, instance->handle);
    if (validate && fn->CreateDebugUtilsMessengerEXT)
        result = fn->CreateDebugUtilsMessengerEXT(instance->handle, &messenger, NULL,
                                                  &instance->messenger);
    return result == VK_SUCCESS ? STK_OK : stk_vk_fail(instance->log, result, "cannot validate");
}

stk_status stk_vk_instance_open(stk_vk_instance *instance, bool validate, const stk_log *log)
{
    memset(instance, 0, sizeof *instance);
    instance->log = log;
    atomic_init(&instance->messages, 0);
    stk_status status = open_library(&instance->fn, log);
    if (status != STK_OK)
        return status;
    uint32_t version = VK_API_VERSION_1_0;
    if (load_global_functions(&instance->fn))
        (void)instance->fn.EnumerateInstanceVersion(&version);
    if (version < VK_API_VERSION_1_2) {
        stk_info(log, "vulkan: the loader is older than 1.2");
        return STK_UNSUPPORTED;
    }
    if (validate && !has_layer(&instance->fn, "VK_LAYER_KHRONOS_validation")) {
        stk_info(log, "vulkan: no validation layer on this machine");
        return STK_UNSUPPORTED;
    }
    status = create(instance, validate);
    if (status != STK_OK)
        stk_vk_instance_close(instance);
    return status;
}

void stk_vk_instance_close(stk_vk_instance *instance)
{
    if (!instance->handle)
        return;
    if (instance->messenger)
        instance->fn.DestroyDebugUtilsMessengerEXT(instance->handle, instance->messenger, NULL);
    instance->fn.DestroyInstance(instance->handle, NULL);
    instance->handle = VK_NULL_HANDLE;
}
