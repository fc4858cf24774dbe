#include "cuda/device_memory.h"

#include <cstring>
#include <fstream>
#include <iterator>

#include "cuda/launch.h"

namespace pkv::cuda {
namespace {

const char* name_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::device: return "device";
    case MemoryKind::pinned: return "pinned";
    case MemoryKind::mapped: return "mapped";
  }
  return "device";
}

uint64_t available_device_bytes() {
  size_t free_bytes = 0, total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  return free_bytes;
}

// Bytes that can be allocated without swapping; UINT64_MAX where the system does not tell.
uint64_t available_host_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string word; file >> word;) {
    uint64_t kib;
    if (word == "MemAvailable:" && file >> kib) return kib << 10;
  }
  return UINT64_MAX;
}

}  // namespace

uint8_t* DeviceMemory::allocate(size_t bytes, MemoryKind kind) {
  void* memory = nullptr;
  if (kind == MemoryKind::device) {
    const uint64_t available = available_device_bytes();
    if (bytes > available) throw out_of_memory(name_of(kind), bytes, available);
    const cudaError_t status = cudaMalloc(&memory, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw out_of_memory(name_of(kind), bytes, available);
    }
    check(status, "cudaMalloc");
  } else {
    // The system kills a process sooner than it refuses to lock its pages.
    const uint64_t available = available_host_bytes();
    if (bytes > available) throw out_of_memory(name_of(kind), bytes, available);
    const unsigned flags = cudaHostAllocPortable | (kind == MemoryKind::mapped ? cudaHostAllocMapped : 0);
    const cudaError_t status = cudaHostAlloc(&memory, bytes, flags);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw out_of_memory(name_of(kind), bytes, available);
    }
    check(status, "cudaHostAlloc");
  }
  uint8_t* const address = static_cast<uint8_t*>(memory);
  try {
    if (kind == MemoryKind::device) {
      check(cudaMemsetAsync(address, 0, bytes, stream_), "cudaMemsetAsync");
    } else {
      // With unified addressing, which a context demands, host and device know the memory by one address.
      void* seen = nullptr;
      check(cudaHostGetDevicePointer(&seen, address, 0), "cudaHostGetDevicePointer");
      if (seen != address) throw unsupported("page-locked memory that host and device know by different addresses");
      std::memset(address, 0, bytes);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    allocated_.emplace(address, kind);
  } catch (...) {
    release(address, kind);
    throw;
  }
  return address;
}

bool DeviceMemory::is_host(const uint8_t* address) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto after = allocated_.upper_bound(address);
  return after != allocated_.begin() && std::prev(after)->second != MemoryKind::device;
}

void DeviceMemory::free(uint8_t* memory) noexcept {
  MemoryKind kind;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = allocated_.find(memory);
    if (found == allocated_.end()) return;
    kind = found->second;
    allocated_.erase(found);
  }
  release(memory, kind);
}

void DeviceMemory::free_all() noexcept {
  for (;;) {
    uint8_t* memory;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (allocated_.empty()) return;
      memory = const_cast<uint8_t*>(allocated_.begin()->first);
    }
    free(memory);
  }
}

// Failures are those of work done earlier, or of a process that ends: nobody is left to be told.
void DeviceMemory::release(uint8_t* memory, MemoryKind kind) noexcept {
  cudaStreamSynchronize(stream_);
  if (kind == MemoryKind::device) {
    cudaFree(memory);
  } else {
    cudaFreeHost(memory);
  }
  cudaGetLastError();
}

}  // namespace pkv::cuda
