# The program as a user meets it. Needs bash and the bundled model.
if(TARGET stoker)
  set(cli_stoker $<TARGET_FILE:stoker>)
  if(CMAKE_CROSSCOMPILING_EMULATOR) # the script runs one program: a line that runs the emulator
    set(cli_stoker ${CMAKE_CURRENT_BINARY_DIR}/stoker_emulated)
    list(JOIN CMAKE_CROSSCOMPILING_EMULATOR " " emulator)
    file(GENERATE OUTPUT ${cli_stoker}
         CONTENT "#!/bin/sh\nexec ${emulator} $<TARGET_FILE:stoker> \"$@\"\n"
         FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  endif()
  add_test(NAME cli COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_cli.sh ${cli_stoker}
           ${PROJECT_SOURCE_DIR}/models/stories-q4_0.gguf)
  set_tests_properties(cli PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
