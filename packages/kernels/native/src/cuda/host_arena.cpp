#include "cuda/host_arena.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "core/host_pages.h"
#include "cuda/device_status.h"
#include "cuda/launch.h"

namespace pkv::cuda {
namespace {

// Of this process. More managed memory than the device has free was never tried: it is said to be able to hang a device.
std::atomic<size_t> all_managed_bytes{0};

// Whether so many bytes more stay within what the device has free; if so, they are counted.
bool count_managed(size_t bytes) {
  size_t free_bytes = 0, total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  if (all_managed_bytes.fetch_add(bytes) + bytes <= free_bytes) return true;
  all_managed_bytes -= bytes;
  return false;
}

cudaError_t advise(void* memory, size_t bytes, cudaMemoryAdvise advice, cudaMemLocationType type, int id) {
  cudaMemLocation location{};
  location.type = type;
  location.id = id;
  return cudaMemAdvise(memory, bytes, advice, location);
}

// From then on the memory stays on the host, whoever touches it, and the device knows where it is without a fault.
cudaError_t keep_on_host(void* memory, size_t bytes, int numa_node) {
  constexpr cudaMemoryAdvise kPlace = cudaMemAdviseSetPreferredLocation;
  if (numa_node < 0 || advise(memory, bytes, kPlace, cudaMemLocationTypeHostNuma, numa_node) != cudaSuccess) {
    const cudaError_t placed = advise(memory, bytes, kPlace, cudaMemLocationTypeHost, 0);
    if (placed != cudaSuccess) return placed;
  }
  cudaGetLastError();
  return advise(memory, bytes, cudaMemAdviseSetAccessedBy, cudaMemLocationTypeDevice, kDevice);
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
  try {
    uint8_t* const memory = allocate_managed(kHugePageBytes);
    if (memory == nullptr) complaint_ = "no managed memory to be had";
    cudaFree(memory);
  } catch (const Error& error) {
    complaint_ = error.what();
  }
}

// Null where there is none.
uint8_t* HostArena::allocate_managed(size_t bytes) const {
  void* memory = nullptr;
  const cudaError_t status = cudaMallocManaged(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMallocManaged");
  const cudaError_t kept = keep_on_host(memory, bytes, numa_node_);
  if (kept != cudaSuccess) cudaFree(memory);
  check(kept, "cudaMemAdvise");
  zero_host_memory(static_cast<uint8_t*>(memory), bytes);
  return static_cast<uint8_t*>(memory);
}

// Null where there is none.
uint8_t* HostArena::allocate_locked(size_t bytes) const {
  void* memory = nullptr;
  const cudaError_t status = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaHostAlloc");
  // Kernels use the host's address: with unified addressing, which a context demands, it is nearly everywhere the device's.
  void* seen = nullptr;
  if (cudaHostGetDevicePointer(&seen, memory, 0) != cudaSuccess || seen != memory) {
    free({static_cast<uint8_t*>(memory), 0});
    throw unsupported("page-locked memory that host and device know by different addresses");
  }
  std::memset(memory, 0, bytes);
  return static_cast<uint8_t*>(memory);
}

HostArena::Piece HostArena::allocate(size_t bytes) const {
  if (!complaint_.empty() || bytes < kHugePageBytes || !count_managed(bytes)) return {allocate_locked(bytes), 0};
  Piece piece{nullptr, bytes};
  try {
    piece.memory = allocate_managed(bytes);
  } catch (...) {
    free(piece);
    throw;
  }
  if (piece.memory == nullptr) free(piece);
  return piece;
}

// Failures are those of work done earlier, or of a process that ends: nobody is left to be told.
void HostArena::free(const Piece& piece) noexcept {
  if (piece.managed_bytes > 0) {
    cudaFree(piece.memory);
    all_managed_bytes -= piece.managed_bytes;
  } else {
    cudaFreeHost(piece.memory);
  }
  cudaGetLastError();
}

}  // namespace pkv::cuda
