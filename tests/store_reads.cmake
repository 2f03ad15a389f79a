# Which reads the store asks for, and what it makes of those that fail: the I/O is the test's.
stk_test(store_reads SOURCES test_store_reads.c store_run.c LINK stk_engine)
target_link_options(test_store_reads PRIVATE
  -Wl,--wrap=stk_io_open,--wrap=stk_io_close,--wrap=stk_io_kick)
set_tests_properties(store_reads PROPERTIES LABELS single)
