// copy: bytes from one place to another, of whatever kind of memory. Costs each byte once read and once written.
#include <algorithm>

#include "cuda/launch.h"
#include "cuda/tuning.h"

namespace pkv::cuda {
namespace {

template <class Word>
__global__ void __launch_bounds__(tuning::copy_threads) copy_words(const Word* from, Word* to, size_t words) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < words; i += step) to[i] = from[i];
}

// Places that overlap: one block goes through them from the side where nothing unread is overwritten.
__global__ void __launch_bounds__(tuning::copy_threads) move_bytes(const uint8_t* from, uint8_t* to, size_t bytes) {
  for (size_t done = 0; done < bytes; done += blockDim.x) {
    const size_t i = done + threadIdx.x;
    const size_t at = to < from ? i : bytes - 1 - i;
    const uint8_t value = i < bytes ? from[at] : 0;
    __syncthreads();
    if (i < bytes) to[at] = value;
    __syncthreads();
  }
}

template <class Word>
void launch_copy(const Runtime& runtime, const CopyParams& params) {
  const size_t words = params.bytes / sizeof(Word);
  const size_t most_blocks = static_cast<size_t>(runtime.multiprocessors) * tuning::copy_blocks_per_multiprocessor;
  const size_t blocks = std::min((words + tuning::copy_threads - 1) / tuning::copy_threads, most_blocks);
  launch(runtime, "copy", copy_words<Word>, {dim3(static_cast<uint32_t>(blocks)), dim3(tuning::copy_threads)},
         reinterpret_cast<const Word*>(params.from), reinterpret_cast<Word*>(params.to), words);
}

}  // namespace

void copy(Runtime& runtime, const CopyParams& params) {
  if (params.from < params.to + params.bytes && params.to < params.from + params.bytes) {
    launch(runtime, "copy", move_bytes, {dim3(1), dim3(tuning::copy_threads)}, params.from, params.to, params.bytes);
    return;
  }
  const uintptr_t together =
      reinterpret_cast<uintptr_t>(params.from) | reinterpret_cast<uintptr_t>(params.to) | params.bytes;
  if (together % sizeof(uint4) == 0) return launch_copy<uint4>(runtime, params);
  if (together % sizeof(uint32_t) == 0) return launch_copy<uint32_t>(runtime, params);
  launch_copy<uint8_t>(runtime, params);
}

}  // namespace pkv::cuda
