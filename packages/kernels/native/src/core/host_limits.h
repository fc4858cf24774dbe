// What this process may use of the machine, by the kernel's and the container's word.
#pragma once
#include <cstdint>

namespace pkv {

// Cores that this process may run on: affinity mask and CPU quota, at least 1.
unsigned usable_cores();

// Bytes that can still be allocated without swapping or being killed; UINT64_MAX where the system does not tell.
uint64_t available_memory_bytes();

}  // namespace pkv
