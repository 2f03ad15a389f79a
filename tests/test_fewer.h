// tests/test_fewer.h: ThreadSanitizer makes tests fifty times slower and looks for one thing only,
// so they try fewer combinations there.
#ifndef STK_TESTS_TEST_FEWER_H
#define STK_TESTS_TEST_FEWER_H

#if defined(__SANITIZE_THREAD__)
enum { TEST_FEWER = 1 };
#else
enum { TEST_FEWER = 0 };
#endif

#endif
