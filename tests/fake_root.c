#include "fake_root.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void need(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

static void full_path(const char *root, const char *file, char path[1024])
{
    need(snprintf(path, 1024, "%s/%s", root, file) < 1024, file);
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        need(mkdir(path, 0700) == 0 || errno == EEXIST, path);
        *slash = '/';
    }
}

void fake_root_make(char path[FAKE_ROOT_BYTES])
{
    strcpy(path, "/tmp/stoker-root-XXXXXX");
    need(mkdtemp(path) != NULL, path);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

void fake_root_remove(const char *path)
{
    need(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, path);
}

void fake_root_file(const char *root, const char *file, const char *text)
{
    char path[1024];
    full_path(root, file, path);
    FILE *out = fopen(path, "w");
    need(out && fputs(text, out) >= 0 && fclose(out) == 0, path);
}

void fake_root_link(const char *root, const char *link, const char *target)
{
    char path[1024];
    full_path(root, link, path);
    need(symlink(target, path) == 0, path);
}
