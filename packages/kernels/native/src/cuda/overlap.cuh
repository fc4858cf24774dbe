// Kernels of one stream that overlap (programmatic dependent launch): a kernel launched with LaunchShape::overlaps may begin
// before the one in front of it has ended, so that its launch, and what it prepares, cost no time of their own. GPUs before
// compute capability 9.0 launch one kernel after the other; there both functions do nothing.
//
// A stage overlaps where the stage that it follows in a step was queued right in front of it (Runtime::in_front); so do the
// kernels of one stage; probe, and the search for places in the hot set, overlap whatever is in front. Why no kernel meets
// unfinished work, however many follow each other:
// - Every thread of such a kernel calls wait_for_predecessor(). It returns when the kernel in front has ended, whether or not
//   that one knows of overlaps, and its writes are seen. No block ends without having waited, so by then the kernel in front
//   of that one has ended too, and so on back to the first.
// - let_successor_begin() is called when everything in front has ended: after the wait, or anywhere in a kernel that was
//   launched without `overlaps`. So when the successor begins, everything in front of this kernel has ended, and all blocks
//   of this kernel have started; the successor's take only room that is left.
// - Before its wait is over a kernel writes no global memory, and reads only what the kernel in front does not write: stages
//   read tables of the cache, collide ids, rerank rotated queries and the number of candidates, attend all but the selected
//   keys and their places.
#pragma once

namespace pkv::cuda {

__device__ inline void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void let_successor_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace pkv::cuda
