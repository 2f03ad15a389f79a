# The cluster room. With MPI it is built whole; without, stubs.c says so at run time when a launcher
# starts several processes.
option(STK_MPI "Build for several machines when MPI is there" ON)
if(STK_MPI)
  find_package(MPI QUIET COMPONENTS C)
endif()

file(GLOB cluster_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.c)
list(REMOVE_ITEM cluster_sources ${CMAKE_CURRENT_LIST_DIR}/stubs.c)
if(MPI_C_FOUND)
  file(GLOB mpi_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/mpi/*.c)
  add_library(stk_cluster STATIC ${cluster_sources} ${mpi_sources})
  target_link_libraries(stk_cluster PRIVATE MPI::MPI_C)
else()
  add_library(stk_cluster STATIC ${cluster_sources} ${CMAKE_CURRENT_LIST_DIR}/stubs.c)
endif()
stk_flags(stk_cluster)
target_link_libraries(stk_cluster PUBLIC stk_base Threads::Threads m)
