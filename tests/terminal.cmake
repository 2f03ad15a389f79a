# The program on a pseudo terminal: line editing, Ctrl-C, the progress bar. Needs the bundled model.
if(TARGET stoker)
  stk_test(terminal
    SOURCES test_terminal.c ../runtime/cli/console.c
    LINK stk_cluster stk_base util
    ARGS $<TARGET_FILE:stoker>)
endif()
