#include "cuda/device_memory.h"

#include <iterator>

#include "core/host_limits.h"
#include "cuda/launch.h"

namespace pkv::cuda {
namespace {

// What is left to the driver: it loads kernels when they first run, and a graph takes memory when it is made.
constexpr uint64_t kDriverBytes = uint64_t{128} << 20;

}  // namespace

uint64_t DeviceMemory::available_bytes(MemoryKind kind) {
  if (kind != MemoryKind::device) return available_memory_bytes();
  size_t free_bytes = 0, total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  return free_bytes > kDriverBytes ? free_bytes - kDriverBytes : 0;
}

uint8_t* DeviceMemory::allocate_device(size_t bytes) const {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {  // what is free lies in pieces
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMalloc");
  const cudaError_t zeroed = cudaMemsetAsync(memory, 0, bytes, stream_);
  if (zeroed != cudaSuccess) cudaFree(memory);
  check(zeroed, "cudaMemsetAsync");
  return static_cast<uint8_t*>(memory);
}

uint8_t* DeviceMemory::allocate(size_t bytes, MemoryKind kind) {
  // Asked before the driver is: the system kills a process sooner than it refuses it host memory.
  const uint64_t available = available_bytes(kind);
  if (bytes > available) throw out_of_memory(kind_name(kind), bytes, available);
  const HostArena::Piece piece =
      kind == MemoryKind::device ? HostArena::Piece{allocate_device(bytes), 0} : host_arena_.allocate(bytes);
  if (piece.memory == nullptr) throw out_of_memory(kind_name(kind), bytes, available);
  const Place place{kind, piece.managed_bytes};
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    allocated_.emplace(piece.memory, place);
  } catch (...) {
    release(piece.memory, place);
    throw;
  }
  return piece.memory;
}

bool DeviceMemory::is_host(const uint8_t* address) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto after = allocated_.upper_bound(address);
  return after != allocated_.begin() && std::prev(after)->second.kind != MemoryKind::device;
}

void DeviceMemory::free(uint8_t* memory) noexcept {
  Place place;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = allocated_.find(memory);
    if (found == allocated_.end()) return;
    place = found->second;
    allocated_.erase(found);
  }
  release(memory, place);
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
void DeviceMemory::release(uint8_t* memory, const Place& place) const noexcept {
  cudaStreamSynchronize(stream_);
  cudaStreamSynchronize(side_stream_);
  if (place.kind == MemoryKind::device) {
    cudaFree(memory);
  } else {
    HostArena::free({memory, place.managed_bytes});
  }
  cudaGetLastError();
}

}  // namespace pkv::cuda
