# What holds for the source itself. Nothing here runs product code except `stoker --help`, so
# ./check leaves it to the release build.
function(stk_house_test name)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS house SKIP_RETURN_CODE 77 TIMEOUT 120
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endfunction()

stk_house_test(house bash tests/test_house.sh ${CMAKE_C_COMPILER})
stk_house_test(links bash tests/test_links.sh)
stk_house_test(format bash tests/test_format.sh)
if(TARGET stoker)
  stk_house_test(docs_cli bash scripts/cli-docs --check $<TARGET_FILE:stoker>)
endif()
