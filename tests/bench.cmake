stk_test(bench_parts
  SOURCES test_bench_parts.c ../runtime/cli/bench_compare.c ../runtime/cli/bench_samples.c
          ../runtime/cli/bench_others.c ../runtime/cli/svg.c ../runtime/cli/interrupt.c
  LINK stk_base m)

# The command on the bundled model. Needs bash and python3, whose json and xml check the reports.
find_program(STK_PYTHON3 python3)
if(TARGET stoker AND STK_PYTHON3)
  add_test(NAME bench COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_bench.sh
           $<TARGET_FILE:stoker> ${PROJECT_SOURCE_DIR}/models/stories-q4_0.gguf ${STK_PYTHON3}
           ${CMAKE_CURRENT_SOURCE_DIR}/check_bench.py)
  # Its threads are the engine's, which have tests of their own: not under ThreadSanitizer.
  set_tests_properties(bench PROPERTIES LABELS single SKIP_RETURN_CODE 77 TIMEOUT 600
    RUN_SERIAL TRUE)
endif()
