stk_test(message SOURCES test_message.c LINK stk_cluster stk_base)
stk_test(flights SOURCES test_flights.c engine_test.c LINK stk_engine)
# Whole programs under mpirun. Sanitizers report Open MPI's own affairs, so these tests run without
# (label mpi); what they would see is in the tests above and in layers.
if(TARGET stoker)
  foreach(part same flights usage lost link)
    add_test(NAME cluster_${part} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_cluster.sh
             $<TARGET_FILE:stoker> ${PROJECT_SOURCE_DIR}/models/stories-q4_0.gguf ${part}
             $<TARGET_FILE:test_flights>)
    set_tests_properties(cluster_${part} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900 LABELS mpi
                         RUN_SERIAL TRUE)
  endforeach()
endif()
