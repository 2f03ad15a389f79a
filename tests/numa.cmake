# Execution on several memory nodes, emulated: same bits, and experts read where they are.
stk_test(numa SOURCES test_numa.c store_run.c LINK stk_engine)
