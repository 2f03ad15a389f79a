# stk_room(NAME DIR [LINK targets...]): a static library from every .c file of one room of the
# house, sub-folders included. stk_flags(TARGET): the flags every target gets.

function(stk_flags target)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/runtime)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
  # Every float operation rounds as written: results must not depend on what a compiler fuses.
  target_compile_options(${target} PRIVATE
    -ffp-contract=off -fno-math-errno
    -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla
    -Wformat=2 -Wpointer-arith -Wwrite-strings)
  if(STK_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(STK_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
  if(STK_SANITIZE)
    # Instrumented code hides value ranges from gcc, which then warns of truncations that cannot be.
    target_compile_options(${target} PRIVATE -fsanitize=${STK_SANITIZE} -fno-omit-frame-pointer
      -fno-sanitize-recover=all $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>)
    target_link_options(${target} PUBLIC -fsanitize=${STK_SANITIZE})
  endif()
endfunction()

function(stk_room name dir)
  cmake_parse_arguments(ROOM "" "" "LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${dir}/*.c)
  if(sources)
    add_library(stk_${name} STATIC ${sources})
    stk_flags(stk_${name})
    target_link_libraries(stk_${name} PUBLIC ${ROOM_LINK})
  else()
    add_library(stk_${name} INTERFACE)
  endif()
endfunction()
