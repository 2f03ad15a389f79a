stk_test(sparse SOURCES test_sparse.c convert_model.c engine_test.c LINK stk_engine)
