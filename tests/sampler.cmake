stk_test(sampler SOURCES test_sampler.c LINK stk_engine)
set_property(TEST sampler PROPERTY LABELS single)
