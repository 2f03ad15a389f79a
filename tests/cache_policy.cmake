# Cache policies by hand and on a recorded trace.
if(TARGET stoker)
  stk_test(cache_policy
    SOURCES test_cache_policy.c ../runtime/cli/replay.c ../runtime/cli/trace.c
    LINK stk_store)
  set_property(TEST cache_policy PROPERTY LABELS single)
endif()
