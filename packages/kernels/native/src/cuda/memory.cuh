// Ways to read memory that say more than a load does.
#pragma once
#include <cstdint>

namespace pkv::cuda {

// Of memory that a kernel does not write and meets once: these pass by the first-level cache. They are volatile so that the
// compiler leaves them together where they are written, all under way before the first is used.
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

// A load that stays in front of the branches behind it.
__device__ inline int32_t load_early(const int32_t* from) {
  int32_t value;
  asm volatile("ld.global.s32 %0, [%1];" : "=r"(value) : "l"(from));
  return value;
}

__device__ inline uint32_t load_early(const uint32_t* from) {
  return static_cast<uint32_t>(load_early(reinterpret_cast<const int32_t*>(from)));
}

// Starts a copy to shared memory that passes through no register, and awaits all that this thread has started.
__device__ inline void copy_async(uint32_t* to_shared, const uint32_t* from) {
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
__device__ inline void await_async_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace pkv::cuda
