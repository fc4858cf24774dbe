// The memory of one CUDA context: on the device, page-locked on the host, and page-locked and read in place by kernels.
#pragma once
#include <cuda_runtime.h>

#include <map>
#include <mutex>

#include "core/device.h"

namespace pkv::cuda {

class DeviceMemory {
 public:
  // `stream`: where all work on the memory is queued.
  explicit DeviceMemory(cudaStream_t stream) : stream_(stream) {}
  ~DeviceMemory() { free_all(); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Zeroed. Device memory is zeroed in the order of the stream. Throws out_of_memory.
  uint8_t* allocate(size_t bytes, MemoryKind kind);
  // Whether the address lies in page-locked memory, which host code may touch.
  bool is_host(const uint8_t* address) const;
  // Waits for the stream first. Does nothing for memory that is not, or no longer, of this context.
  void free(uint8_t* memory) noexcept;
  void free_all() noexcept;

 private:
  void release(uint8_t* memory, MemoryKind kind) noexcept;

  cudaStream_t stream_;
  mutable std::mutex mutex_;
  std::map<const uint8_t*, MemoryKind> allocated_;
};

}  // namespace pkv::cuda
