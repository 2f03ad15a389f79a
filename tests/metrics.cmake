stk_test(metrics SOURCES test_metrics.c LINK stk_engine)
