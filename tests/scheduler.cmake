stk_test(residency SOURCES test_residency.c LINK stk_scheduler)
stk_test(plan SOURCES test_plan.c plan_shapes.c LINK stk_scheduler)
