# libFuzzer targets, one minute each in CTest. What they find stays in the build folder.
if(STK_FUZZ)
  add_executable(fuzz_gguf fuzz/fuzz_gguf.c)
  stk_flags(fuzz_gguf)
  target_link_libraries(fuzz_gguf PRIVATE stk_model -fsanitize=fuzzer)
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/found_gguf)
  add_test(NAME fuzz_gguf COMMAND fuzz_gguf -max_total_time=60 -max_len=65536
    ${CMAKE_CURRENT_BINARY_DIR}/found_gguf ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus_gguf)
  set_tests_properties(fuzz_gguf PROPERTIES TIMEOUT 300 LABELS fuzz)
endif()
