stk_test(text_stop SOURCES test_text_stop.c ../runtime/cli/text_stop.c)
