// Page-locked host memory that kernels read and write in place, by the address that the host knows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace pkv::cuda {

// Large pieces are pages of the system that are touched and then registered with the driver; small ones, and all where
// registering does not work or the environment has PARISKV_HOST_MEMORY=driver, come from the driver's own allocator. By
// measurement (H200, CUDA 13.0): cudaHostAlloc makes 2 to 3 GB/s, registering touched memory 22 GB/s and touched huge pages
// 56 GB/s, and a pool is tens of GB.
class HostArena {
 public:
  // Finds the device's place, registers one huge page and gives it back, to see whether that works here.
  HostArena();

  struct Piece {
    uint8_t* memory;         // null: the machine has none
    size_t registered_bytes; // 0: from the driver's allocator
  };
  // Zeroed. Throws device_failed for failures that are not about memory.
  Piece allocate(size_t bytes) const;
  static void free(const Piece& piece) noexcept;

  // Why nothing is registered; empty where it works.
  const std::string& complaint() const { return complaint_; }

 private:
  int numa_node_ = -1;  // of the device; -1: unknown, or there is only one
  std::string complaint_;
};

}  // namespace pkv::cuda
