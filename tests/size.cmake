stk_test(size SOURCES test_size.c LINK stk_base)
