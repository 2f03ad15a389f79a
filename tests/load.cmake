stk_test(load SOURCES test_load.c LINK stk_engine)
