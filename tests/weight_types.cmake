stk_test(weight_types SOURCES test_weight_types.c convert_model.c engine_test.c LINK stk_engine)
