# Memory nodes: who belongs where on machines this one is not, and pages of emulated nodes.
stk_test(nodes SOURCES test_nodes.c LINK stk_base)
