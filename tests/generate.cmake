# Brings its own session functions, so that the loop is tested without a model, and its own
# allocators, to see that the token path does not use them.
stk_test(generate SOURCES test_generate.c LINK stk_engine)
target_link_options(test_generate PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
