# Reads and writes that fail: the linker sends what the store asks of the system to the test.
stk_test(store_faults SOURCES test_store_faults.c store_run.c store_break.c LINK stk_engine)
stk_test(sidecar_faults SOURCES test_sidecar_faults.c store_run.c store_break.c LINK stk_engine)
foreach(topic store_faults sidecar_faults)
  target_link_options(test_${topic} PRIVATE
    -Wl,--wrap=pread,--wrap=pwrite,--wrap=fdatasync
    -Wl,--wrap=io_uring_submit_and_wait,--wrap=io_uring_queue_init)
  set_tests_properties(${topic} PROPERTIES TIMEOUT 1200) # as store
endforeach()
