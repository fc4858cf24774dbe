// Blocks that share a result: the one that is done last puts it together.
#pragma once
#include <cstdint>

namespace pkv::cuda {

// Whether this block is the last of `blocks` to arrive; it then sees what all of them wrote before. By the whole block.
// arrivals: zero before the first arrives, and again after the last, ready for the next launch.
__device__ inline bool arrives_last(uint32_t* arrivals, uint32_t blocks) {
  __shared__ bool is_last;
  // The barriers order the writes of the block before its arrival, and the arrival before what it reads then.
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t earlier;
    asm volatile("atom.inc.acq_rel.gpu.global.u32 %0, [%1], %2;" : "=r"(earlier) : "l"(arrivals), "r"(blocks - 1) : "memory");
    is_last = earlier == blocks - 1;
  }
  __syncthreads();
  return is_last;
}

}  // namespace pkv::cuda
