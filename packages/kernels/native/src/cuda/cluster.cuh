// The blocks of a cluster: they run at the same time and read each other's shared memory. GPUs before compute capability 9.0
// have none; there, and in a launch without clusters, every block is a cluster of its own and the same code holds.
#pragma once
#include <cooperative_groups.h>

#include "cuda/cuda.h"
#include "cuda/tuning.h"

namespace pkv::cuda {

namespace cluster {

__device__ inline uint32_t rank() {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().block_rank();
#else
  return 0;
#endif
}

__device__ inline uint32_t size() {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().num_blocks();
#else
  return 1;
#endif
}

// Also a barrier of the block. No block may end while others read from it.
__device__ inline void sync() {
#if __CUDA_ARCH__ >= 900
  // The cluster's barrier wants whole warps, and lanes may still be apart after a loop of theirs.
  __syncwarp();
  cooperative_groups::this_cluster().sync();
#else
  __syncthreads();
#endif
}

// Where `rank` keeps what this block keeps at `shared`.
template <class T>
__device__ T* at(T* shared, uint32_t rank) {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().map_shared_rank(shared, rank);
#else
  (void)rank;
  return shared;
#endif
}

}  // namespace cluster

// Blocks of the cluster that works on each of `heads` shares of at most `items` items: no more in all than multiprocessors,
// of which a block of 1024 threads takes a whole one, and none with fewer than `least_items`.
inline uint32_t cluster_blocks(const Runtime& runtime, uint32_t heads, uint32_t items, uint32_t least_items) {
  if (runtime.compute_capability < 90) return 1;
  uint32_t blocks = tuning::most_cluster_blocks;
  while (blocks > 1 && (size_t{heads} * blocks > runtime.multiprocessors || items / blocks < least_items)) {
    blocks /= 2;
  }
  return blocks;
}

}  // namespace pkv::cuda
