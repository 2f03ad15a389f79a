// topology/block.h: which disk holds a file, and what the kernel says about it.
//
// Reads sysfs; measures nothing. Follows partitions, device mapper and RAID to a disk.
#ifndef STK_TOPOLOGY_BLOCK_H
#define STK_TOPOLOGY_BLOCK_H

#include "base/log.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum stk_block_kind {
    STK_BLOCK_NONE, // memory or a network: no disk of this machine
    STK_BLOCK_NVME,
    STK_BLOCK_SSD, // not rotating: SATA, USB, eMMC, SD
    STK_BLOCK_HDD,
    STK_BLOCK_VIRTUAL, // virtio and the like: what is behind it is not known
} stk_block_kind;

enum { STK_BLOCK_NAME_BYTES = 64, STK_BLOCK_MODEL_BYTES = 64 };

typedef struct stk_block_device {
    stk_block_kind kind;
    char name[STK_BLOCK_NAME_BYTES];       // "nvme0n1", the whole disk; "" when there is none
    char model[STK_BLOCK_MODEL_BYTES];     // "" when not known
    char filesystem[STK_BLOCK_NAME_BYTES]; // "ext4"
    uint32_t major_number, minor_number;   // of the whole disk
    bool is_rotational;         // what the kernel says; virtual disks often claim it wrongly
    bool is_stacked;            // several disks or a mapping between: name is the first disk
    uint64_t size_bytes;        // of the disk; 0: not known
    uint32_t sector_bytes;      // least unit and alignment of direct reads; 0: not known
    uint32_t request_bytes_max; // larger reads are split; 0: not known
    uint32_t queue_depth_max;   // requests the kernel queues; 0: not known
    int32_t numa_node;          // the system's number of the node its controller hangs off; -1
    char pci_address[16];       // of its controller; "" when none
} stk_block_device;

// The device behind `path` (file or folder). root: as stk_limits_read; only sysfs and proc are
// looked up under it. STK_IO: the path cannot be read (logged). A file on no disk is STK_OK with
// kind STK_BLOCK_NONE.
STK_CHECKED stk_status stk_block_device_of_path(const char *path, const stk_log *log,
                                                stk_block_device *out);

// The same for a device number, under `root`; the filesystem is left empty.
void stk_block_device_of_number(const char *root, uint32_t major_number, uint32_t minor_number,
                                stk_block_device *out);

const char *stk_block_kind_name(stk_block_kind kind); // "nvme", "ssd", "hdd", "virtual", "none"

#endif
