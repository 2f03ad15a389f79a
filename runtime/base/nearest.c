#include "base/nearest.h"

#include <string.h>

enum { NAME_BYTES_MAX = 63 };

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

uint32_t stk_name_distance(const char *a, const char *b)
{
    size_t m = strlen(a), n = strlen(b);
    if (m > NAME_BYTES_MAX || n > NAME_BYTES_MAX)
        return UINT32_MAX;
    uint32_t rows[3][NAME_BYTES_MAX + 1]; // the current row of the table and the two before it
    for (size_t j = 0; j <= n; j++)
        rows[0][j] = (uint32_t)j;
    for (size_t i = 1; i <= m; i++) {
        uint32_t *row = rows[i % 3];
        const uint32_t *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = (uint32_t)i;
        for (size_t j = 1; j <= n; j++) {
            row[j] = min_u32(last[j - 1] + (a[i - 1] != b[j - 1]),
                             min_u32(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = min_u32(row[j], before[j - 2] + 1);
        }
    }
    return rows[m % 3][n];
}

int stk_name_is_near(const char *typed, const char *name)
{
    size_t length = strlen(typed);
    if (length >= 2 && strncmp(typed, name, length) == 0)
        return 1;
    uint32_t limit = length / 3 > 2 ? (uint32_t)(length / 3) : 2;
    // A short name can be reached from anything: at least one letter has to be right.
    limit = min_u32(limit, length ? (uint32_t)length - 1 : 0);
    return stk_name_distance(typed, name) <= limit;
}
