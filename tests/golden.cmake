# Reference logits: one CTest case each, after a fixture that makes the synthetic models and checks
# that every model is the one the logits are of.
find_program(STK_PYTHON python3 HINTS /usr/bin)
set(golden_index ${CMAKE_CURRENT_SOURCE_DIR}/data/golden/index.json)
set(golden_models ${CMAKE_CURRENT_BINARY_DIR}/golden)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${golden_index})

add_executable(test_golden test_golden.c engine_test.c)
stk_flags(test_golden)
target_compile_definitions(test_golden PRIVATE STK_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data"
  STK_MODELS="${PROJECT_SOURCE_DIR}/models")
target_link_libraries(test_golden PRIVATE stk_engine PkgConfig::JANSSON PkgConfig::CMOCKA)

if(STK_PYTHON)
  add_test(NAME golden_models COMMAND ${STK_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/tools/make_golden.py
    ${golden_index} ${PROJECT_SOURCE_DIR}/models ${golden_models})
  set_tests_properties(golden_models PROPERTIES SKIP_RETURN_CODE 77 FIXTURES_SETUP golden_models)
endif()

file(READ ${golden_index} golden_json)
string(JSON golden_count LENGTH ${golden_json})
math(EXPR golden_last "${golden_count} - 1")
foreach(i RANGE ${golden_last})
  string(JSON name GET ${golden_json} ${i} case)
  string(JSON model GET ${golden_json} ${i} model)
  string(JSON synth ERROR_VARIABLE trained GET ${golden_json} ${i} synth)
  if(trained)
    set(arguments ${name} ${PROJECT_SOURCE_DIR}/models/${model})
  else()
    set(arguments ${name} ${golden_models}/${model} synthetic)
  endif()
  add_test(NAME golden_${name} COMMAND test_golden ${arguments})
  set_tests_properties(golden_${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
    FIXTURES_REQUIRED golden_models)
  add_test(NAME golden_vulkan_${name} COMMAND test_golden ${arguments} vulkan)
  set_tests_properties(golden_vulkan_${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
    FIXTURES_REQUIRED golden_models LABELS single)
endforeach()
