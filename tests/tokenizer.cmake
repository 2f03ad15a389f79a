stk_test(tokenizer
  SOURCES test_tokenizer.c vocab_bytes.c vocab_qwen2.c
  LINK stk_model PkgConfig::JANSSON Threads::Threads)
stk_test(tokenizer_pre
  SOURCES test_tokenizer_pre.c
  LINK stk_model)
