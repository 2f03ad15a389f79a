stk_test(detokenizer
  SOURCES test_detokenizer.c vocab_bytes.c
  LINK stk_model)
