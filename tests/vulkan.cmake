# On every Vulkan device of the machine (lavapipe where there is no GPU); status 77 without any. Once
# more under the validation layer, where a message is a failure.
stk_test(vulkan_shaders SOURCES vulkan/test_vulkan_shaders.c LINK stk_engine)
stk_test(vulkan_dense SOURCES vulkan/test_vulkan_dense.c LINK stk_vulkan stk_cpu stk_model stk_base)
stk_test(vulkan_experts SOURCES vulkan/test_vulkan_experts.c
  LINK stk_vulkan stk_store stk_cpu stk_model stk_base)
foreach(test vulkan_shaders vulkan_dense vulkan_experts)
  add_test(NAME ${test}_validated COMMAND test_${test} --validate)
  set_tests_properties(${test}_validated PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endforeach()
stk_test(vulkan_device SOURCES vulkan/test_vulkan_device.c
  LINK stk_vulkan stk_cpu stk_model stk_base)
if(STK_SHADER_FILES)
  add_test(NAME vulkan_spirv COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/vulkan/check_shaders.sh
           ${STK_SHADER_FILES})
  set_tests_properties(vulkan_spirv PROPERTIES SKIP_RETURN_CODE 77)
endif()
stk_test(vulkan_engine SOURCES vulkan/test_vulkan_engine.c LINK stk_engine)
stk_test(vulkan_attention SOURCES vulkan/test_vulkan_attention.c engine_test.c LINK stk_engine m)
stk_test(vulkan_chain SOURCES vulkan/test_vulkan_chain.c engine_test.c LINK stk_engine m)
stk_test(vulkan_valid SOURCES vulkan/test_vulkan_valid.c engine_test.c LINK stk_engine m ${CMAKE_DL_LIBS})
stk_test(vulkan_golden SOURCES vulkan/test_vulkan_golden.c engine_test.c
  LINK stk_engine PkgConfig::JANSSON m ARGS ${CMAKE_CURRENT_BINARY_DIR}/golden)
set_tests_properties(vulkan_golden PROPERTIES FIXTURES_REQUIRED golden_models)
# The driver has threads that a sanitizer cannot see into; the tests have one. See ./check.
get_property(all DIRECTORY PROPERTY TESTS)
list(FILTER all INCLUDE REGEX "^vulkan_")
set_property(TEST ${all} PROPERTY LABELS single)
