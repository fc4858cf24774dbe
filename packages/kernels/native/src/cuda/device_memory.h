// The memory of one CUDA context: on the device, page-locked on the host, and page-locked and read in place by kernels.
#pragma once
#include <cuda_runtime.h>

#include <map>
#include <mutex>

#include "core/device.h"
#include "cuda/host_arena.h"

namespace pkv::cuda {

class DeviceMemory {
 public:
  // Where all work on the memory is queued: on `stream`, some of it on `side_stream`.
  DeviceMemory(cudaStream_t stream, cudaStream_t side_stream) : stream_(stream), side_stream_(side_stream) {}
  ~DeviceMemory() { free_all(); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  static uint64_t available_bytes(MemoryKind kind);
  // Zeroed. Device memory is zeroed in the order of the stream. Throws out_of_memory.
  uint8_t* allocate(size_t bytes, MemoryKind kind);
  // Whether the address lies in page-locked memory, which host code may touch.
  bool is_host(const uint8_t* address) const;
  // Waits for both streams first. Does nothing for memory that is not, or no longer, of this context.
  void free(uint8_t* memory) noexcept;
  void free_all() noexcept;
  const HostArena& host_arena() const { return host_arena_; }

 private:
  struct Place {
    MemoryKind kind;
    size_t managed_bytes;  // as HostArena has it
  };
  uint8_t* allocate_device(size_t bytes) const;
  void release(uint8_t* memory, const Place& place) const noexcept;

  cudaStream_t stream_, side_stream_;
  HostArena host_arena_;
  mutable std::mutex mutex_;
  std::map<const uint8_t*, Place> allocated_;
};

}  // namespace pkv::cuda
