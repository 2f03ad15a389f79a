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

stk_fuzz(config LINK stk_base
  ARGS -max_len=8192 ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus_config)
stk_test(config_malformed
  SOURCES test_config_malformed.c ${PROJECT_SOURCE_DIR}/runtime/cli/config_tables.c
  LINK stk_engine)
