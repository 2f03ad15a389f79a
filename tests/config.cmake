stk_test(config SOURCES test_config.c LINK stk_base)
stk_test(config_examples
  SOURCES test_config_examples.c ${PROJECT_SOURCE_DIR}/runtime/cli/config_tables.c
  LINK stk_engine)
target_compile_definitions(test_config_examples PRIVATE STK_CONFIGS="${PROJECT_SOURCE_DIR}/configs")

# docs/configuration.md is what the option tables say; `update_docs` writes it again.
add_executable(write_configuration tools/write_configuration.c
  ${PROJECT_SOURCE_DIR}/runtime/cli/config_tables.c)
stk_flags(write_configuration)
target_link_libraries(write_configuration PRIVATE stk_engine)
add_custom_target(update_docs
  COMMAND write_configuration > ${PROJECT_SOURCE_DIR}/docs/configuration.md)
add_test(NAME docs_configuration COMMAND bash -c
  "\"$1\" | diff -u \"$2\" - || { echo 'build the target update_docs'; exit 1; }" --
  $<TARGET_FILE:write_configuration> ${PROJECT_SOURCE_DIR}/docs/configuration.md)

if(STK_FUZZ)
  add_executable(fuzz_config fuzz/fuzz_config.c)
  stk_flags(fuzz_config)
  target_link_libraries(fuzz_config PRIVATE stk_base -fsanitize=fuzzer)
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/found_config)
  add_test(NAME fuzz_config COMMAND fuzz_config -max_total_time=60 -max_len=8192
    ${CMAKE_CURRENT_BINARY_DIR}/found_config ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus_config)
  set_tests_properties(fuzz_config PROPERTIES TIMEOUT 300 LABELS fuzz)
endif()
