stk_test(options SOURCES test_options.c LINK stk_base)
