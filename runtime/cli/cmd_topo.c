// cli/cmd_topo.c: stoker topo: what this machine is and, with --probe, how fast.
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/probe_run.h"
#include "cli/topo.h"
#include <stdlib.h>

typedef struct topo_options {
    const char *topology, *path;
    bool has_probe, is_refreshed, is_json;
} topo_options;

#define FIELD(name) .offset = offsetof(topo_options, name)
static const stk_option topo_table_options[] = {
    {.flag = "probe",
     .type = STK_OPTION_BOOL,
     .doc = "measure memory, processors and disk, unless it was done before, and GPUs' memory",
     FIELD(has_probe)},
    {.flag = "refresh",
     .type = STK_OPTION_BOOL,
     .doc = "with --probe: measure again",
     FIELD(is_refreshed)},
    {.flag = "path",
     .type = STK_OPTION_STRING,
     .unit = "FILE",
     .fallback = ".",
     .doc = "the disk that holds FILE, best a model: it is read, never written",
     FIELD(path)},
    {.flag = "topology",
     .type = STK_OPTION_STRING,
     .unit = "FILE|TEXT",
     .doc = "another machine: an hwloc XML file, or 'pack:2 numa:2 core:16 pu:2'",
     FIELD(topology)},
    {.flag = "json", .type = STK_OPTION_BOOL, .doc = "print one JSON object", FIELD(is_json)},
};
static const stk_option_table topo_table = {"Topology", topo_table_options,
                                            sizeof topo_table_options / sizeof *topo_table_options};

static stk_status show(const topo_options *o, const stk_topo *topo)
{
    if (!o->is_json)
        stk_topo_print_text(topo);
    return o->is_json && stk_topo_print_json(topo) != 0 ? STK_NO_MEMORY : STK_OK;
}

// This machine: with its disk, and with what was measured.
static stk_status show_this(const topo_options *o, stk_topo *topo, const stk_log *log)
{
    stk_block_device disk;
    stk_probe_results results;
    bool is_new = false;
    stk_status status = stk_block_device_of_path(o->path, log, &disk);
    if (status != STK_OK)
        return status;
    topo->disk = &disk;
    topo->path = o->path;
    char *cache = stk_probe_cache_path();
    bool is_known = false;
    results = (stk_probe_results){0};
    if (cache)
        is_known = stk_probe_cache_load(cache, topo->machine, log, &results);
    stk_topo_gpus *gpus = malloc(sizeof *gpus);
    if (gpus)
        stk_topo_gpus_find(gpus, log);
    if (o->has_probe) {
        const stk_probe_run_options options = {.path = o->path, .is_refreshed = o->is_refreshed};
        status = stk_probe_run(&options, topo->machine, &disk, log, &results, &is_new);
        is_known = status == STK_OK;
        for (uint32_t i = 0; is_known && gpus && i < gpus->count; i++)
            stk_probe_run_gpu(&gpus->infos[i], i, o->is_refreshed, log, &results, &is_new);
    }
    if (is_new && is_known && cache)
        stk_probe_cache_store(cache, topo->machine, &results, log);
    if (is_known)
        topo->results = &results;
    if (gpus)
        gpus->results = topo->results;
    topo->gpus = gpus;
    if (status == STK_OK)
        status = show(o, topo);
    free(gpus);
    stk_probe_results_free(&results);
    free(cache);
    return status;
}

int stk_cmd_topo(int argc, char **argv)
{
    topo_options options = {0};
    stk_console_options console_options = {0};
    stk_console console;
    const stk_option_binding bindings[] = {
        {&topo_table, &options},
        {&stk_console_option_table, &console_options},
    };
    const stk_arguments arguments = {
        .doc = "Shows what this process may use of the machine: processors, memory, devices, "
               "limits.",
        .bindings = bindings,
        .binding_count = sizeof bindings / sizeof *bindings,
    };
    int exit_code;
    if (!stk_arguments_parse(&arguments, argc, argv, &exit_code))
        return exit_code;
    if (options.topology && options.has_probe)
        return stk_arguments_misused(argv[0], "--probe measures this machine, not a --topology");
    if (options.is_refreshed && !options.has_probe)
        return stk_arguments_misused(argv[0], "--refresh belongs to --probe");
    stk_interrupt_end_at_once(); // measuring takes seconds
    stk_console_open(&console_options, &console);
    stk_machine *machine = NULL;
    stk_topo topo = {0};
    const stk_machine_options machine_options = {.topology = options.topology};
    stk_status status = stk_machine_open(&machine_options, &console.log, &machine);
    if (status == STK_OK) {
        topo.machine = machine;
        status = stk_machine_is_this(machine) ? show_this(&options, &topo, &console.log)
                                              : show(&options, &topo);
    }
    stk_machine_close(&machine);
    stk_console_close(&console);
    return stk_exit_code(status);
}
