#include "cuda/host_arena.h"

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "core/host_pages.h"
#include "cuda/device_status.h"
#include "cuda/launch.h"

namespace pkv::cuda {
namespace {

cudaError_t advise(void* memory, size_t bytes, cudaMemoryAdvise advice, cudaMemLocationType type, int id) {
  cudaMemLocation location{};
  location.type = type;
  location.id = id;
  return cudaMemAdvise(memory, bytes, advice, location);
}

// Whether the memory will stay on the host, whoever touches it, and the device will know where it is without a fault.
bool keep_on_host(void* memory, size_t bytes, int numa_node) {
  constexpr cudaMemoryAdvise kPlace = cudaMemAdviseSetPreferredLocation;
  const bool placed =
      (numa_node >= 0 && advise(memory, bytes, kPlace, cudaMemLocationTypeHostNuma, numa_node) == cudaSuccess) ||
      advise(memory, bytes, kPlace, cudaMemLocationTypeHost, 0) == cudaSuccess;
  return placed && advise(memory, bytes, cudaMemAdviseSetAccessedBy, cudaMemLocationTypeDevice, kDevice) == cudaSuccess;
}

}  // namespace

HostArena::HostArena() {
  const char* const wish = std::getenv("PARISKV_HOST_MEMORY");
  if (wish != nullptr && std::strcmp(wish, "driver") == 0) {
    complaint_ = "PARISKV_HOST_MEMORY=driver";
    return;
  }
  int both_at_once = 0;
  check(cudaDeviceGetAttribute(&both_at_once, cudaDevAttrConcurrentManagedAccess, kDevice), "cudaDeviceGetAttribute");
  if (both_at_once == 0) {
    complaint_ = "host and device cannot use managed memory at once";
    return;
  }
  std::ifstream(bus_folder() + "numa_node") >> numa_node_;
  uint8_t* const memory = allocate_managed(kHugePageBytes);
  if (memory == nullptr) {
    complaint_ = "no managed memory to be had";
    return;
  }
  cudaFree(memory);
}

// Null where there is none. No error of CUDA is left behind.
uint8_t* HostArena::allocate_managed(size_t bytes) const {
  void* memory = nullptr;
  if (cudaMallocManaged(&memory, bytes) == cudaSuccess) {
    if (keep_on_host(memory, bytes, numa_node_) && touch_host_pages(static_cast<uint8_t*>(memory), bytes)) {
      return static_cast<uint8_t*>(memory);
    }
    cudaFree(memory);
  }
  cudaGetLastError();
  return nullptr;
}

HostArena::Piece HostArena::allocate(size_t bytes) const {
  if (complaint_.empty() && bytes >= kHugePageBytes) return {allocate_managed(bytes), true};
  void* memory = nullptr;
  const cudaError_t status = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return {nullptr, false};
  }
  check(status, "cudaHostAlloc");
  const Piece piece{static_cast<uint8_t*>(memory), false};
  // Kernels use the host's address: with unified addressing, which a context demands, it is nearly everywhere the device's.
  void* seen = nullptr;
  if (cudaHostGetDevicePointer(&seen, memory, 0) != cudaSuccess || seen != memory) {
    free(piece);
    throw unsupported("page-locked memory that host and device know by different addresses");
  }
  std::memset(piece.memory, 0, bytes);
  return piece;
}

// Failures are those of work done earlier, or of a process that ends: nobody is left to be told.
void HostArena::free(const Piece& piece) noexcept {
  if (piece.managed) {
    cudaFree(piece.memory);
  } else {
    cudaFreeHost(piece.memory);
  }
  cudaGetLastError();
}

}  // namespace pkv::cuda
