stk_test(synth SOURCES test_synth.c LINK stk_model)
set_property(TEST synth PROPERTY LABELS single)
stk_test(synth_vocab SOURCES test_synth_vocab.c ../runtime/cli/synth_vocab.c
  LINK stk_base PkgConfig::JANSSON)
