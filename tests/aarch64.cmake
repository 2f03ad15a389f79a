# The AArch64 build, made with a cross compiler and run under qemu from an ordinary x86 build.
# Skipped where the compiler, qemu or the libraries (cmake/aarch64_sysroot.sh) are missing. A
# sanitizer would see nothing of it.
if(NOT CMAKE_CROSSCOMPILING AND NOT STK_SANITIZE AND TARGET stoker AND
   CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(STK_AARCH64_SYSROOT ${PROJECT_SOURCE_DIR}/build-aarch64-sysroot CACHE PATH
      "What cmake/aarch64_sysroot.sh made")
  add_test(NAME aarch64_kernels COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_aarch64.sh
           ${CMAKE_COMMAND} ${CMAKE_GENERATOR} ${PROJECT_SOURCE_DIR} ${CMAKE_BINARY_DIR}/aarch64
           ${STK_AARCH64_SYSROOT} $<TARGET_FILE:stoker>)
  set_tests_properties(aarch64_kernels PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 1200)
endif()
