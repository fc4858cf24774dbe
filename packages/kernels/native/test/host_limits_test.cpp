#include "core/host_limits.h"

#include <thread>

#include "check.h"

void test_host_limits(void) {
  const unsigned cores = pkv::usable_cores();
  CHECK(cores >= 1 && cores <= std::thread::hardware_concurrency());
  CHECK(pkv::available_memory_bytes() > (uint64_t{1} << 20));
}
