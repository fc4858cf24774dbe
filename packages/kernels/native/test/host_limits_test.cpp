#include "cpu/host_limits.h"

#include <thread>

#include "check.h"

void test_host_limits(void) {
  const unsigned cores = pkv::cpu::usable_cores();
  CHECK(cores >= 1 && cores <= std::thread::hardware_concurrency());
  CHECK(pkv::cpu::available_memory_bytes() > (uint64_t{1} << 20));
}
