stk_test(pages SOURCES test_pages.c LINK stk_base)
