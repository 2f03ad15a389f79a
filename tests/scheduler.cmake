stk_test(residency SOURCES test_residency.c LINK stk_scheduler)
