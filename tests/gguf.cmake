stk_test(types SOURCES test_types.c LINK stk_model)
