# The command's arithmetic alone, over a session the test brings.
stk_test(perplexity SOURCES test_perplexity.c ${PROJECT_SOURCE_DIR}/runtime/cli/perplexity.c
         LINK stk_base)
