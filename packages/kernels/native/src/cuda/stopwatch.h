// Time per verb on the device's own clock, when it is wanted: two events an operator.
#pragma once
#include <vector>

#include "core/operation.h"
#include "cuda/resources.h"

namespace pkv::cuda {

class Stopwatch {
 public:
  // Calls `queue()`, which queues the work of one operator on the stream, between two events.
  template <class Queue>
  void time(cudaStream_t stream, Verb verb, Queue&& queue) {
    if (used_ == spans_.size()) spans_.emplace_back();
    Span& span = spans_[used_];
    span.verb = verb;
    check(cudaEventRecord(span.begin, stream), "cudaEventRecord");
    queue();
    check(cudaEventRecord(span.end, stream), "cudaEventRecord");
    ++used_;
  }
  // Waits for the stream and adds what was timed since the last call.
  void add_to(VerbTimes& times, cudaStream_t stream);

 private:
  struct Span {
    Verb verb = Verb::copy;
    Event begin{cudaEventDefault}, end{cudaEventDefault};
  };
  std::vector<Span> spans_;  // their events are used again and again
  size_t used_ = 0;
};

}  // namespace pkv::cuda
