# The memory limit in a control group of exactly that size. Needs a writable memory controller.
if(TARGET stoker)
  add_test(NAME memory_limit COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_memory_limit.sh
           $<TARGET_FILE:stoker> ${PROJECT_SOURCE_DIR}/models/stories-q4_0.gguf)
  set_tests_properties(memory_limit PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
