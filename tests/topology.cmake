stk_test(topology SOURCES test_topology.c LINK stk_topology)
target_compile_definitions(test_topology PRIVATE STK_TOPOLOGIES="${CMAKE_CURRENT_SOURCE_DIR}/data/topology")
stk_test(pci_node SOURCES test_pci_node.c fake_root.c LINK stk_topology)
stk_test(limits SOURCES test_limits.c fake_root.c LINK stk_topology)
# One thread, and it forbids the address space that ThreadSanitizer lives in.
set_property(TEST limits PROPERTY LABELS single)
stk_test(probe SOURCES test_probe.c fake_root.c LINK stk_topology)
stk_test(probe_cache SOURCES test_probe_cache.c fake_root.c ${PROJECT_SOURCE_DIR}/runtime/cli/probe_cache.c
         ${PROJECT_SOURCE_DIR}/runtime/cli/probe_json.c ${PROJECT_SOURCE_DIR}/runtime/cli/cache_path.c
         ${PROJECT_SOURCE_DIR}/runtime/cli/disk_use.c LINK stk_topology stk_scheduler PkgConfig::JANSSON)
stk_test(kernel_rate SOURCES kernel/test_kernel_rate.c LINK stk_engine)
if(TARGET stoker)
  add_test(NAME topo COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/test_topo.sh $<TARGET_FILE:stoker>
           ${CMAKE_CURRENT_SOURCE_DIR}/data/topology)
  set_tests_properties(topo PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
