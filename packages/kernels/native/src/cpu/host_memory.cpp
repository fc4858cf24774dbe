#include "cpu/host_memory.h"

#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "core/host_pages.h"

#if defined(_WIN32)
#include <malloc.h>
#endif

namespace pkv::cpu {
namespace {

constexpr size_t kLineBytes = 64;

#if defined(_WIN32)
uint8_t* heap_allocate(size_t bytes) { return static_cast<uint8_t*>(_aligned_malloc(bytes, kLineBytes)); }
void heap_free(uint8_t* memory) { _aligned_free(memory); }
#else
uint8_t* heap_allocate(size_t bytes) {
  return static_cast<uint8_t*>(std::aligned_alloc(kLineBytes, (bytes + kLineBytes - 1) / kLineBytes * kLineBytes));
}
void heap_free(uint8_t* memory) { std::free(memory); }
#endif

// `mapped_bytes`: 0 for memory from the heap.
void release(uint8_t* memory, size_t mapped_bytes) {
  if (mapped_bytes != 0) {
    unmap_host_pages(memory, mapped_bytes);
  } else {
    heap_free(memory);
  }
}

}  // namespace

uint8_t* HostMemory::allocate(size_t bytes, MemoryKind kind) {
  const uint64_t available = available_bytes_();
  if (bytes > available) throw out_of_memory(kind_name(kind), bytes, available);
  const size_t mapped_bytes = kMapsHostPages && bytes >= kHugePageBytes ? bytes : 0;
  uint8_t* const memory = mapped_bytes != 0 ? map_host_pages(bytes) : heap_allocate(bytes);
  if (memory == nullptr) throw out_of_memory(kind_name(kind), bytes, available);
  if (mapped_bytes == 0) std::memset(memory, 0, bytes);
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    mapped_bytes_.emplace(memory, mapped_bytes);
  } catch (...) {
    release(memory, mapped_bytes);
    throw;
  }
  return memory;
}

void HostMemory::free(uint8_t* memory) noexcept {
  size_t mapped_bytes;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = mapped_bytes_.find(memory);
    if (found == mapped_bytes_.end()) return;
    mapped_bytes = found->second;
    mapped_bytes_.erase(found);
  }
  release(memory, mapped_bytes);
}

void HostMemory::free_all() noexcept {
  for (;;) {
    uint8_t* memory;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (mapped_bytes_.empty()) return;
      memory = mapped_bytes_.begin()->first;
    }
    free(memory);
  }
}

}  // namespace pkv::cpu
