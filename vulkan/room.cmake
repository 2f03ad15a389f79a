# The Vulkan room. With vulkan.h and glslc it is built whole and its shaders, one line each in
# shaders/shaders.def, are compiled into arrays; without, stubs.c says so at run time. libvulkan is
# loaded at run time and not linked.
option(STK_VULKAN "Build the Vulkan room when vulkan.h and glslc are there" ON)
find_path(STK_VULKAN_INCLUDE vulkan/vulkan.h)
find_program(STK_GLSLC glslc)

set(STK_VULKAN_FOUND OFF)
if(STK_VULKAN AND STK_VULKAN_INCLUDE AND STK_GLSLC)
  set(STK_VULKAN_FOUND ON)
endif()

# stk_shader(NAME SOURCE VARIANT FLAGS...): NAME_VARIANT.inc, the words of one compiled shader, and
# NAME_VARIANT.spv for the tests that look at it.
function(stk_shader name source variant)
  set(out ${CMAKE_BINARY_DIR}/shaders/${name}_${variant})
  file(GLOB includes ${PROJECT_SOURCE_DIR}/shaders/*.glsl)
  set(input ${PROJECT_SOURCE_DIR}/shaders/${source}.comp)
  set(command ${STK_GLSLC} -O --target-env=vulkan1.2 -Werror ${ARGN} ${input})
  add_custom_command(OUTPUT ${out}.inc ${out}.spv
    COMMAND ${command} -mfmt=num -o ${out}.inc
    COMMAND ${command} -o ${out}.spv
    DEPENDS ${input} ${includes} VERBATIM COMMENT "Shader ${name} (${variant})")
endfunction()

if(STK_VULKAN_FOUND)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/shaders)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    ${PROJECT_SOURCE_DIR}/shaders/shaders.def)
  file(STRINGS ${PROJECT_SOURCE_DIR}/shaders/shaders.def lines REGEX "^STK_SHADER")
  set(arrays "")
  set(table "")
  set(outputs "")
  set(STK_SHADER_FILES "")
  foreach(line ${lines})
    string(REGEX MATCH "\\(([a-z0-9_]+), ([a-z0-9_]+), ([0-9]+), ([0-9]+), ([A-Z]+), ?(.*)\\)$"
           matched "${line}")
    if(NOT matched)
      message(FATAL_ERROR "shaders/shaders.def: cannot read: ${line}")
    endif()
    set(name ${CMAKE_MATCH_1})
    set(source ${CMAKE_MATCH_2})
    set(entry "    {\"${name}\", ${CMAKE_MATCH_3}, ${CMAKE_MATCH_4}")
    set(has_dot ${CMAKE_MATCH_5})
    separate_arguments(flags UNIX_COMMAND "${CMAKE_MATCH_6}")
    set(variants plain)
    if(has_dot STREQUAL "DOT")
      list(APPEND variants dot)
    endif()
    foreach(variant ${variants})
      set(extra ${flags})
      if(variant STREQUAL "dot")
        list(APPEND extra -DSTK_DOT)
      endif()
      stk_shader(${name} ${source} ${variant} ${extra})
      string(APPEND arrays "static const uint32_t ${name}_${variant}[] = {\n"
             "#include \"shaders/${name}_${variant}.inc\"\n};\n")
      list(APPEND outputs ${CMAKE_BINARY_DIR}/shaders/${name}_${variant}.inc)
      list(APPEND STK_SHADER_FILES ${CMAKE_BINARY_DIR}/shaders/${name}_${variant}.spv)
    endforeach()
    if(has_dot STREQUAL "DOT")
      string(APPEND table "${entry}, ${name}_plain, ${name}_dot, sizeof ${name}_plain, "
             "sizeof ${name}_dot},\n")
    else()
      string(APPEND table "${entry}, ${name}_plain, NULL, sizeof ${name}_plain, 0},\n")
    endif()
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/shaders/codes.c @ONLY CONTENT
"// Generated from shaders/shaders.def.
#include \"vulkan/impl.h\"

@arrays@
const stk_vk_code stk_vk_codes[STK_VK_SHADER_COUNT] = {
@table@};
")
  file(GLOB vulkan_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/vulkan/*.c)
  list(REMOVE_ITEM vulkan_sources ${PROJECT_SOURCE_DIR}/vulkan/stubs.c)
  add_library(stk_vulkan STATIC ${vulkan_sources} ${CMAKE_BINARY_DIR}/shaders/codes.c)
  set_source_files_properties(${CMAKE_BINARY_DIR}/shaders/codes.c PROPERTIES
    OBJECT_DEPENDS "${outputs}")
  target_include_directories(stk_vulkan PRIVATE ${CMAKE_BINARY_DIR})
  target_include_directories(stk_vulkan SYSTEM PRIVATE ${STK_VULKAN_INCLUDE})
  target_link_libraries(stk_vulkan PUBLIC stk_model stk_base ${CMAKE_DL_LIBS})
else()
  message(STATUS "No Vulkan: vulkan.h or glslc is missing")
  add_library(stk_vulkan STATIC ${PROJECT_SOURCE_DIR}/vulkan/stubs.c
    ${PROJECT_SOURCE_DIR}/vulkan/choose.c)
  target_link_libraries(stk_vulkan PUBLIC stk_model stk_base)
endif()
stk_flags(stk_vulkan)
