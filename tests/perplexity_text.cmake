# Perplexity of a book that the bundled model was not trained on. llama.cpp (CPU) gives 61.036 and
# 134.999 for the whole text in chunks of 256 and 512 tokens, 61.1105 and 132.5431 for the first ten
# chunks of each, which are enough for the second length and where sanitizers make everything slow.
if(TARGET stoker)
  if(STK_SANITIZE)
    set(perplexity_expected 256 10 61.1105 512 10 132.5431)
  else()
    set(perplexity_expected 256 auto 61.036 512 10 132.5431)
  endif()
  while(perplexity_expected)
    list(POP_FRONT perplexity_expected ctx chunks expected)
    add_test(NAME perplexity_text_${ctx} COMMAND sh
      ${CMAKE_CURRENT_SOURCE_DIR}/test_perplexity_text.sh $<TARGET_FILE:stoker>
      ${PROJECT_SOURCE_DIR}/models/stories-q4_0.gguf
      ${CMAKE_CURRENT_SOURCE_DIR}/data/little_women.txt ${ctx} ${chunks} ${expected})
    set_tests_properties(perplexity_text_${ctx} PROPERTIES TIMEOUT 900)
    if(ctx GREATER 256) # one of the two is enough for ThreadSanitizer
      set_property(TEST perplexity_text_${ctx} PROPERTY LABELS single)
    endif()
  endwhile()
endif()
