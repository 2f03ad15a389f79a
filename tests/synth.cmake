stk_test(synth SOURCES test_synth.c LINK stk_model)
