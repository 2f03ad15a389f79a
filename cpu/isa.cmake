# Kernels are compiled for the instruction set in their file name; cpu.c chooses at run time.
# stk_isa(PATTERN PROCESSORS flags...): flags of the files that match; other processors skip them.
function(stk_isa pattern processors)
  file(GLOB sources ${PROJECT_SOURCE_DIR}/cpu/${pattern})
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(${processors})$")
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "${ARGN}")
  else()
    set_source_files_properties(${sources} PROPERTIES HEADER_FILE_ONLY ON)
  endif()
endfunction()

stk_isa(x86/*_avx2.c "x86_64|AMD64" -mavx2 -mfma -mf16c -O3)
stk_isa(x86/*_avxvnni.c "x86_64|AMD64" -mavx2 -mfma -mf16c -mavxvnni -O3)
stk_isa(x86/*_avx512.c "x86_64|AMD64" -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq
        -mavx512vnni -mprefer-vector-width=512 -O3)
# The tile instructions are spelt in assembly; the rest of these files is AVX-512.
stk_isa(x86/*_amx.c "x86_64|AMD64" -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq
        -mavx512vnni -mprefer-vector-width=512 -O3)
stk_isa(arm/*_neon.c "aarch64|arm64" -march=armv8.2-a+dotprod -O3)
