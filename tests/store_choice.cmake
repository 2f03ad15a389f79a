# Which experts get and keep the memory there is: eviction, guesses, and what sessions do not use.
stk_test(store_choice SOURCES test_store_choice.c store_run.c LINK stk_engine)
