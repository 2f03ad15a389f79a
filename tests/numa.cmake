# Execution on several memory nodes, emulated: same bits, and experts read where they are.
stk_test(numa SOURCES test_numa.c store_run.c LINK stk_engine)
# The same where the system refuses to bind pages, as containers do.
stk_test(numa_refused SOURCES test_numa_refused.c store_run.c LINK stk_engine)
