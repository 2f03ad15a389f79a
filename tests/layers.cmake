stk_test(layers SOURCES test_layers.c engine_test.c LINK stk_engine)
