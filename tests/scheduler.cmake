stk_test(residency SOURCES test_residency.c LINK stk_scheduler)
stk_test(staging SOURCES test_staging.c LINK stk_scheduler)
stk_test(split SOURCES test_split.c LINK stk_scheduler)
stk_test(plan SOURCES test_plan.c plan_shapes.c LINK stk_scheduler)
stk_test(plan_gpu SOURCES test_plan_gpu.c plan_shapes.c LINK stk_scheduler)
stk_test(plan_time SOURCES test_plan_time.c plan_shapes.c LINK stk_scheduler m)
stk_test(plan_limits SOURCES test_plan_limits.c plan_shapes.c fake_root.c LINK stk_scheduler stk_topology)
stk_test(config_plan
  SOURCES test_config_plan.c plan_shapes.c ${PROJECT_SOURCE_DIR}/runtime/cli/config_tables.c
  LINK stk_engine)
target_compile_definitions(test_config_plan PRIVATE STK_CONFIGS="${PROJECT_SOURCE_DIR}/configs")
if(TARGET stoker)
  foreach(part cli cgroup)
    add_test(NAME plan_${part} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_plan.sh $<TARGET_FILE:stoker>
             ${PROJECT_SOURCE_DIR}/models/stories-q4_0.gguf ${part})
    set_tests_properties(plan_${part} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
  endforeach()
  # ThreadSanitizer's own memory does not fit into the group that the test makes.
  set_property(TEST plan_cgroup PROPERTY LABELS single)
endif()
