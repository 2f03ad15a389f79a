stk_test(draft SOURCES test_draft.c LINK stk_engine)
