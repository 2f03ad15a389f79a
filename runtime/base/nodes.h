// base/nodes.h: the machine's memory nodes: which worker belongs to which, and whose pages are
// whose.
//
// Owns the split of workers over nodes, their binding and the binding of pages. A node here is a
// group of cores with the memory nearest to it; memory without cores (CXL, HBM) belongs to the
// nearest node that has workers. Knows nothing of what is kept or computed.
// Invariant: a node has at least one worker, and its workers have consecutive numbers.
#ifndef STK_BASE_NODES_H
#define STK_BASE_NODES_H

#include "base/log.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STK_NODES_MAX = 64 };

typedef struct stk_nodes_options {
    uint32_t worker_count; // 0: one per core this process may use
    uint32_t worker_max;   // of which at most so many
    // 0: the machine's nodes that have cores. Else so many, cut from the cores in order, each with
    // the memory of its first core; 1 keeps nothing apart. Never more than workers.
    uint32_t node_count;
    const char *description; // tests: a synthetic machine or an XML file; NULL: this machine
    const stk_log *log;      // borrowed; NULL: silent
} stk_nodes_options;

// Workers [worker_first, worker_first + worker_count).
typedef struct stk_node {
    uint32_t worker_first, worker_count;
    uint32_t os_index;    // the system's number of its memory
    uint32_t extra_count; // memories without workers that belong to it too
} stk_node;

// Thread-safety: safe, except open and close.
typedef struct stk_nodes stk_nodes;

// STK_NO_MEMORY.
STK_CHECKED stk_status stk_nodes_open(const stk_nodes_options *options, stk_nodes **out);
void stk_nodes_close(stk_nodes **nodes); // sets it to NULL; NULL is allowed

uint32_t stk_nodes_worker_count(const stk_nodes *nodes);
const stk_node *stk_nodes_list(const stk_nodes *nodes, uint32_t *count);
uint32_t stk_nodes_of_worker(const stk_nodes *nodes, uint32_t worker);

// Binds the calling thread to the worker's core; where workers outnumber cores, to its node's
// cores. False: the system refuses, or there is nothing to bind to. That costs speed only.
bool stk_nodes_bind(const stk_nodes *nodes, uint32_t worker);
// Gives the thread that opened `nodes`, which must be the caller, the binding it had then.
bool stk_nodes_unbind(const stk_nodes *nodes);

// Asks that untouched pages come from the node's memory, and from other memory only when that is
// full; whole pages within [pages, pages + bytes). With a single node it does nothing and succeeds.
// False: the system refuses (containers do), which is logged once; then the first thread to touch a
// page decides.
bool stk_nodes_place(stk_nodes *nodes, uint32_t node, void *pages, size_t bytes);

// Where pages came from, looked up for up to about a thousand of them.
typedef struct stk_nodes_found {
    uint32_t touched; // looked at and in memory
    uint32_t at_home; // of which on the node
} stk_nodes_found;
stk_nodes_found stk_nodes_find(const stk_nodes *nodes, uint32_t node, const void *pages,
                               size_t bytes);

// Deals things to nodes one by one, in proportion to their workers: owner[count]. Every node gets
// one of the first; a shorter deal is the beginning of a longer one.
void stk_nodes_deal(const stk_nodes *nodes, uint32_t count, uint8_t *owner);

// Cuts [0, total) in proportion to the nodes' workers: node n's part begins here, and ends where
// that of n+1 begins (n == count: total).
uint32_t stk_nodes_share_begin(const stk_nodes *nodes, uint32_t node, uint32_t total);

#endif
