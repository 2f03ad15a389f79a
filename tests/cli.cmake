# The program as a user meets it. Needs bash and the bundled model.
if(TARGET stoker)
  add_test(NAME cli COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_cli.sh $<TARGET_FILE:stoker>
           ${PROJECT_SOURCE_DIR}/models/stories-q4_0.gguf)
  set_tests_properties(cli PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
