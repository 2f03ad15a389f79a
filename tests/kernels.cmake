# Under qemu the widest kernels must be there; elsewhere the tests take what the machine has.
if(CMAKE_CROSSCOMPILING AND CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
  set(kernels_here ARGS neon)
endif()
stk_test(kernels SOURCES kernel/test_kernels.c LINK stk_cpu stk_model stk_base ${kernels_here})
stk_test(kernel_ops SOURCES kernel/test_kernel_ops.c LINK stk_cpu stk_model stk_base ${kernels_here})
stk_test(matrix SOURCES kernel/test_matrix.c LINK stk_cpu stk_model stk_base)
set_property(TEST kernels kernel_ops matrix PROPERTY LABELS single) # one thread: see ./check
# The same programs on an ARM without the dot product: nothing but what detection allows may run.
if(CMAKE_CROSSCOMPILING AND CMAKE_CROSSCOMPILING_EMULATOR MATCHES "qemu-aarch64")
  foreach(name kernels kernel_ops)
    add_test(NAME ${name}_armv8 COMMAND ${CMAKE_CROSSCOMPILING_EMULATOR} -cpu cortex-a57
             $<TARGET_FILE:test_${name}>)
  endforeach()
endif()
