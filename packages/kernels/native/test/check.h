/* The smallest test harness that C and C++ share. */
#ifndef PKV_TEST_CHECK_H
#define PKV_TEST_CHECK_H

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

extern int checks_made;
extern int checks_failed;

/* Tests of one file each, called by main. */
void test_pool(void);
void test_host_limits(void);
void test_host_memory(void);
void test_select(void);
void test_attend_pieces(void);
void test_choose_top(void);

#ifdef __cplusplus
}
#endif

#define CHECK(condition)                                                        \
  do {                                                                          \
    ++checks_made;                                                              \
    if (!(condition)) {                                                         \
      ++checks_failed;                                                          \
      fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);  \
    }                                                                           \
  } while (0)

#endif
