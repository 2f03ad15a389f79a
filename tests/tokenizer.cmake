stk_test(tokenizer
  SOURCES test_tokenizer.c vocab_bytes.c vocab_qwen2.c
  LINK stk_cluster stk_model PkgConfig::JANSSON Threads::Threads)
stk_test(tokenizer_pre
  SOURCES test_tokenizer_pre.c
  LINK stk_cluster stk_model)
stk_test(tokenizer_gguf
  SOURCES test_tokenizer_gguf.c ../runtime/cli/cmd_tokenize.c ../runtime/cli/arguments.c
    ../runtime/cli/console.c ../runtime/cli/interrupt.c ../runtime/cli/output.c
    ../runtime/cli/read_text.c
  LINK stk_cluster stk_model PkgConfig::JANSSON)
