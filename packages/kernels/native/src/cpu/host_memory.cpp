#include "cpu/host_memory.h"

#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "cpu/host_limits.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif
#if defined(_WIN32)
#include <malloc.h>
#endif

namespace pkv::cpu {
namespace {

constexpr size_t kLineBytes = 64;
constexpr size_t kHugePageBytes = size_t{2} << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

#if defined(_WIN32)
uint8_t* heap_allocate(size_t bytes) { return static_cast<uint8_t*>(_aligned_malloc(bytes, kLineBytes)); }
void heap_free(uint8_t* memory) { _aligned_free(memory); }
#else
uint8_t* heap_allocate(size_t bytes) {
  return static_cast<uint8_t*>(std::aligned_alloc(kLineBytes, round_up(bytes, kLineBytes)));
}
void heap_free(uint8_t* memory) { std::free(memory); }
#endif

#if defined(__linux__)

// Faults all pages in; false when the system has no memory for them.
bool populate(uint8_t* memory, size_t bytes) {
#if defined(MADV_POPULATE_WRITE)
  constexpr int kPopulateWrite = MADV_POPULATE_WRITE;
#else
  constexpr int kPopulateWrite = 23;  // since Linux 5.14
#endif
  if (madvise(memory, bytes, kPopulateWrite) == 0) return true;
  if (errno == ENOMEM) return false;
  const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t at = 0; at < bytes; at += page_bytes) static_cast<volatile uint8_t*>(memory)[at] = 0;
  return true;
}

// Fresh pages from the system, aligned to huge pages; null when there are none.
uint8_t* map_huge(size_t bytes) {
  // One huge page more than wanted, then cut to alignment.
  const size_t reserved = bytes + kHugePageBytes;
  void* start = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  uint8_t* const from = static_cast<uint8_t*>(start);
  const size_t before = (kHugePageBytes - reinterpret_cast<uintptr_t>(from) % kHugePageBytes) % kHugePageBytes;
  if (before != 0) munmap(from, before);
  if (before != kHugePageBytes) munmap(from + before + bytes, kHugePageBytes - before);
  madvise(from + before, bytes, MADV_HUGEPAGE);  // a wish: without huge pages it works all the same
  if (populate(from + before, bytes)) return from + before;
  munmap(from + before, bytes);
  return nullptr;
}

#endif

const char* name_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::device: return "device";
    case MemoryKind::pinned: return "pinned";
    case MemoryKind::mapped: return "mapped";
  }
  return "device";
}

}  // namespace

uint8_t* HostMemory::allocate(size_t bytes, MemoryKind kind) {
  const uint64_t available = available_memory_bytes();
  if (bytes > available) throw out_of_memory(name_of(kind), bytes, available);
  uint8_t* memory = nullptr;
  size_t mapped_bytes = 0;
#if defined(__linux__)
  if (bytes >= kHugePageBytes) {
    mapped_bytes = round_up(bytes, kHugePageBytes);
    memory = map_huge(mapped_bytes);
    if (memory == nullptr) throw out_of_memory(name_of(kind), bytes, available);
  }
#endif
  if (memory == nullptr) {
    memory = heap_allocate(bytes);
    if (memory == nullptr) throw out_of_memory(name_of(kind), bytes, available);
    std::memset(memory, 0, bytes);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  mapped_bytes_.emplace(memory, mapped_bytes);
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
#if defined(__linux__)
  if (mapped_bytes != 0) {
    munmap(memory, mapped_bytes);
    return;
  }
#endif
  heap_free(memory);
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
