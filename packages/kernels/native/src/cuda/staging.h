// The way of host bytes to the device: through page-locked memory, so that a write need not wait for the work before it
// and its source may change as soon as it returns.
#pragma once
#include <vector>

#include "cuda/resources.h"

namespace pkv::cuda {

class Staging {
 public:
  Staging();

  // Queues a copy of `bytes` to device memory; returns once `source` has been read.
  void write(cudaStream_t stream, uint8_t* to, const void* source, size_t bytes);

 private:
  PageLocked memory_;           // parts that are filled in turn
  std::vector<Event> emptied_;  // by part: the copies out of it are done
  size_t part_ = 0, used_bytes_ = 0;
};

}  // namespace pkv::cuda
