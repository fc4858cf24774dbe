// Host memory that kernels read and write in place, by the address that the host knows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace pkv::cuda {

// Large pieces are managed memory that is told to stay on the host (docs/decisions/0012); small ones come from cudaHostAlloc,
// and so do all where managed memory cannot be used by both sides at once, what would make it more than the device has free,
// and all if the environment has PARISKV_HOST_MEMORY=driver. The device finds managed memory by page tables of 2 MiB, and all
// other host memory by tables of 4 KiB, which it reads anew for nearly every record that a step fetches.
class HostArena {
 public:
  // Finds the device's place, takes one managed page and gives it back, to see whether that works here.
  HostArena();

  struct Piece {
    uint8_t* memory;  // null: the machine has none
    size_t managed_bytes;  // 0: it is cudaHostAlloc's
  };
  // Zeroed. Throws device_failed for failures that are not about memory.
  Piece allocate(size_t bytes) const;
  static void free(const Piece& piece) noexcept;

  // Why no memory is managed; empty where it works.
  const std::string& complaint() const { return complaint_; }

 private:
  uint8_t* allocate_managed(size_t bytes) const;
  uint8_t* allocate_locked(size_t bytes) const;

  int numa_node_ = -1;  // of the device; -1: unknown, or there is only one
  std::string complaint_;
};

}  // namespace pkv::cuda
