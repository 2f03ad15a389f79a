# Brings its own session functions, so that the loop is tested without a model.
stk_test(generate SOURCES test_generate.c LINK stk_engine)
