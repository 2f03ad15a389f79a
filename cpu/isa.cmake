# Kernels are compiled for the instruction set in their file name; cpu.c chooses at run time.
file(GLOB avx2_sources ${PROJECT_SOURCE_DIR}/cpu/x86/*_avx2.c)
set_source_files_properties(${avx2_sources} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;-O3")
# The AMX kernels spell the tile instructions in assembly; the rest of them is AVX-512.
file(GLOB avx512_sources ${PROJECT_SOURCE_DIR}/cpu/x86/*_avx512.c
  ${PROJECT_SOURCE_DIR}/cpu/x86/*_amx.c)
set_source_files_properties(${avx512_sources} PROPERTIES COMPILE_OPTIONS
  "-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mprefer-vector-width=512;-O3")
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(${avx2_sources} ${avx512_sources} PROPERTIES HEADER_FILE_ONLY ON)
endif()
