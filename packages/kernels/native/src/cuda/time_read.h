// How fast this GPU reads memory: the yardstick that figures are compared with.
#pragma once
#include "cuda/cuda.h"

namespace pkv::cuda {

// Seconds to read `bytes` once with the whole GPU, in place where the memory is the host's. Waits for the stream.
double time_read(const Runtime& runtime, const uint8_t* from, size_t bytes);

}  // namespace pkv::cuda
