# Both bring their own session functions, so that the loop is tested without a model, and their
# own allocators, to see that the token path does not use them.
foreach(topic generate generate_draft)
  stk_test(${topic} SOURCES test_${topic}.c count_allocations.c LINK stk_engine m)
  target_link_options(test_${topic} PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
endforeach()
