# The governor of slots, and slots taken away and given back while a model runs.
stk_test(pressure SOURCES test_pressure.c store_run.c LINK stk_engine)
