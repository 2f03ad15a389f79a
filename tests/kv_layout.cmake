stk_test(kv_layout SOURCES test_kv_layout.c engine_test.c LINK stk_engine)
