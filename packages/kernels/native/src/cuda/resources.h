// Things of the CUDA runtime that are given back when their owner goes.
#pragma once
#include <cuda_runtime.h>

#include <memory>

#include "cuda/launch.h"

namespace pkv::cuda {

// A stream that does not wait for the default one.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  explicit Event(unsigned flags) { check(cudaEventCreateWithFlags(&event_, flags), "cudaEventCreateWithFlags"); }
  ~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  Event(Event&& other) noexcept : event_(other.event_) { other.event_ = nullptr; }
  Event& operator=(Event&&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

struct FreePageLocked {
  void operator()(uint8_t* memory) const { cudaFreeHost(memory); }
};
using PageLocked = std::unique_ptr<uint8_t[], FreePageLocked>;

inline PageLocked allocate_page_locked(size_t bytes) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable), "cudaHostAlloc");
  return PageLocked(static_cast<uint8_t*>(memory));
}

}  // namespace pkv::cuda
