if(TARGET stoker)
  add_test(NAME install COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_install.sh
           ${CMAKE_COMMAND} ${CMAKE_BINARY_DIR} ${PROJECT_SOURCE_DIR}/models/stories-q4_0.gguf)
  set_tests_properties(install PROPERTIES TIMEOUT 300 LABELS mpi)
endif()
