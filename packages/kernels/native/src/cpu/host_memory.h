// The memory of one CPU context.
#pragma once
#include <mutex>
#include <unordered_map>

#include "core/device.h"
#include "core/host_limits.h"

namespace pkv::cpu {

// Every kind of memory is plain memory here. It is touched when it is allocated: what was granted is there, and no operator
// waits for a page fault.
class HostMemory {
 public:
  // `available_bytes`: what the machine still has.
  explicit HostMemory(uint64_t (*available_bytes)() = available_memory_bytes) : available_bytes_(available_bytes) {}
  ~HostMemory() { free_all(); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  // Zeroed, aligned to 64 bytes and from 2 MiB on to huge pages. Throws out_of_memory before the machine is short of it.
  uint8_t* allocate(size_t bytes, MemoryKind kind);
  // Does nothing for memory that is not, or no longer, of this context.
  void free(uint8_t* memory) noexcept;
  void free_all() noexcept;

 private:
  uint64_t (*available_bytes_)();
  std::mutex mutex_;
  std::unordered_map<uint8_t*, size_t> mapped_bytes_;  // 0: from the heap
};

}  // namespace pkv::cpu
