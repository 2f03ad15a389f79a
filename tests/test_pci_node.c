// The memory node of a PCI device, from a /sys that does not exist.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_root.h"
#include "topology/pci_node.h"

static void test_nodes(void **state)
{
    (void)state;
    char root[FAKE_ROOT_BYTES];
    fake_root_make(root);
    fake_root_file(root, "sys/bus/pci/devices/0000:01:00.0/numa_node", "1\n");
    fake_root_file(root, "sys/bus/pci/devices/0000:02:00.0/numa_node", "-1\n");
    fake_root_file(root, "sys/bus/pci/devices/0000:03:00.0/numa_node", "none\n");
    assert_int_equal(stk_pci_node(root, "0000:01:00.0"), 1);
    assert_int_equal(stk_pci_node(root, "0000:02:00.0"), -1);
    assert_int_equal(stk_pci_node(root, "0000:03:00.0"), -1);
    assert_int_equal(stk_pci_node(root, "0000:04:00.0"), -1);
    assert_int_equal(stk_pci_node(root, ""), -1);
    fake_root_remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nodes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
