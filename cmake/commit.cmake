# The commit a build was made from, for reports: stk_commit.h, made again when the commit changes.
# Run with -DOUT=FILE -DSOURCE=DIR as a script, included as the rule that does so.
if(CMAKE_SCRIPT_MODE_FILE)
  cmake_policy(VERSION 3.25)
  execute_process(COMMAND git describe --always --dirty --abbrev=12 --exclude=*
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE commit ERROR_QUIET
    OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
  if(failed OR commit STREQUAL "")
    set(commit "unknown")
  endif()
  file(CONFIGURE OUTPUT ${OUT} CONTENT "#define STK_COMMIT \"@commit@\"\n" @ONLY)
  return()
endif()

set(STK_COMMIT_DIR ${CMAKE_BINARY_DIR}/generated)
add_custom_target(stk_commit
  COMMAND ${CMAKE_COMMAND} -DOUT=${STK_COMMIT_DIR}/stk_commit.h -DSOURCE=${PROJECT_SOURCE_DIR}
          -P ${CMAKE_CURRENT_LIST_FILE}
  BYPRODUCTS ${STK_COMMIT_DIR}/stk_commit.h)
