// How fast this machine reads memory: the yardstick of the memory-bound operators.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/parallel.h"

namespace pkv::cpu {

// Seconds that all threads together take to read `bytes` once, in order, in pieces of 1 MiB.
double time_read(Parallel& pool, const uint8_t* from, size_t bytes);

}  // namespace pkv::cpu
