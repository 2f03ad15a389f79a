stk_fuzz(gguf LINK stk_model
  ARGS -max_len=65536 ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus_gguf)
stk_fuzz(tokenizer SOURCES vocab_bytes.c LINK stk_model
  ARGS -max_len=4096)
