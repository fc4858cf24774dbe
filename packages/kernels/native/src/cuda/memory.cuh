// Reads of memory that a kernel does not write and meets once: they pass by the first-level cache. They are volatile so that
// the compiler leaves them together where they are written, all under way before the first is used.
#pragma once
#include <cstdint>

namespace pkv::cuda {

__device__ inline uint32_t load_once(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(value) : "l"(from));
  return value;
}

__device__ inline uint4 load_once(const uint4* from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

}  // namespace pkv::cuda
