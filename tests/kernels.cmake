stk_test(kernels SOURCES kernel/test_kernels.c LINK stk_cpu stk_model stk_base)
stk_test(kernel_ops SOURCES kernel/test_kernel_ops.c LINK stk_cpu stk_model stk_base)
stk_test(matrix SOURCES kernel/test_matrix.c LINK stk_cpu stk_model stk_base)
set_property(TEST kernels kernel_ops matrix PROPERTY LABELS single) # one thread: see ./check
