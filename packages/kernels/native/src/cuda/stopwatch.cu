#include "cuda/stopwatch.h"

namespace pkv::cuda {

void Stopwatch::add_to(VerbTimes& times, cudaStream_t stream) {
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  for (size_t i = 0; i < used_; ++i) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, spans_[i].begin, spans_[i].end), "cudaEventElapsedTime");
    times[static_cast<size_t>(spans_[i].verb)].nanoseconds += static_cast<uint64_t>(milliseconds * 1e6f);
  }
  used_ = 0;
}

}  // namespace pkv::cuda
