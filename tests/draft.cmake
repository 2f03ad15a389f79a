stk_test(draft SOURCES test_draft.c LINK stk_engine)
set_property(TEST draft PROPERTY LABELS single) # one thread: see ./check
