# The expert store through the engine: same bits whatever is resident and however it is read.
stk_test(store SOURCES test_store.c store_run.c LINK stk_engine)
set_tests_properties(store PROPERTIES TIMEOUT 1200) # minutes under ThreadSanitizer on two cores
