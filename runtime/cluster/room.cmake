# The cluster room. What uses MPI is a library of its own that the program loads when a launcher
# starts several processes (runtime/cluster/plugin.h); without MPI there is none.
option(STK_MPI "Build for several machines when MPI is there" ON)
if(STK_MPI)
  find_package(MPI QUIET COMPONENTS C)
endif()

file(GLOB cluster_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.c)
add_library(stk_cluster STATIC ${cluster_sources})
stk_flags(stk_cluster)
target_link_libraries(stk_cluster PUBLIC stk_base m ${CMAKE_DL_LIBS})

if(MPI_C_FOUND)
  file(GLOB mpi_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/mpi/*.c)
  # With the little of base that it needs, so that it looks for nothing in the program.
  set(mpi_base log.c pages.c status.c)
  list(TRANSFORM mpi_base PREPEND ${PROJECT_SOURCE_DIR}/runtime/base/)
  add_library(stoker_mpi MODULE ${mpi_sources} ${mpi_base})
  stk_flags(stoker_mpi)
  set_target_properties(stoker_mpi PROPERTIES OUTPUT_NAME stoker-mpi C_VISIBILITY_PRESET hidden
                        LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  target_link_libraries(stoker_mpi PRIVATE MPI::MPI_C Threads::Threads)
  if(NOT STK_SANITIZE)
    target_link_options(stoker_mpi PRIVATE -Wl,-z,defs)
  endif()
  add_dependencies(stk_cluster stoker_mpi)
  install(TARGETS stoker_mpi LIBRARY DESTINATION lib/stoker) # where cluster.c looks for it
endif()
