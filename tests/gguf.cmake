stk_test(types SOURCES test_types.c LINK stk_model)
stk_test(gguf SOURCES test_gguf.c LINK stk_model)
stk_test(gguf_hostile SOURCES test_gguf_hostile.c LINK stk_model)
set_property(TEST types gguf gguf_hostile PROPERTY LABELS single)
