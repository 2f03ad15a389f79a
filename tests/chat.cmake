stk_test(chat
  SOURCES test_chat.c vocab_bytes.c
  LINK stk_model)
