stk_test(batching SOURCES test_batching.c engine_test.c LINK stk_engine)
