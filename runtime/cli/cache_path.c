// cli/cache_path.c: where the cache of measurements lies, by the XDG base directory specification.
//
// One of the two files that read environment variables (the other, cluster/launcher.c, looks for a
// launcher's): these two say where a user keeps such files on every system, and no option could be
// remembered between runs in their place.
#include "cli/probe_cache.h"

#include <stdio.h>
#include <stdlib.h>

char *stk_probe_cache_path(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *path = NULL;
    int length = -1;
    if (cache && cache[0] == '/') // the specification: a relative path is to be ignored
        length = asprintf(&path, "%s/stoker/probe.json", cache);
    else if (home && home[0] == '/')
        length = asprintf(&path, "%s/.cache/stoker/probe.json", home);
    return length < 0 ? NULL : path;
}
