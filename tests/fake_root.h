// A folder with proc/ and sys/ of a machine that does not exist.
#ifndef STK_TESTS_FAKE_ROOT_H
#define STK_TESTS_FAKE_ROOT_H

#define FAKE_ROOT_BYTES 64

void fake_root_make(char path[FAKE_ROOT_BYTES]);
void fake_root_remove(const char *path); // with everything in it

// Writes root/file, folders made as needed.
void fake_root_file(const char *root, const char *file, const char *text);
void fake_root_link(const char *root, const char *link, const char *target); // relative to the link

#endif
