#include "cuda/host_arena.h"

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "core/host_pages.h"
#include "cuda/device_status.h"
#include "cuda/launch.h"

namespace pkv::cuda {
namespace {

// Kernels use the host's address: with unified addressing, which a context demands, it is nearly everywhere the device's.
bool has_one_address(uint8_t* memory) {
  void* seen = nullptr;
  return cudaHostGetDevicePointer(&seen, memory, 0) == cudaSuccess && seen == memory;
}

// Whether touched pages could be registered; if not, `complaint` says why. No error of CUDA is left behind.
bool register_pages(uint8_t* memory, size_t bytes, std::string& complaint) {
  const cudaError_t status = cudaHostRegister(memory, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
  if (status == cudaSuccess && has_one_address(memory)) return true;
  complaint = status == cudaSuccess ? "host and device know it by different addresses" : cudaGetErrorString(status);
  if (status == cudaSuccess) cudaHostUnregister(memory);
  cudaGetLastError();
  return false;
}

}  // namespace

HostArena::HostArena() {
  const char* const wish = std::getenv("PARISKV_HOST_MEMORY");
  if (wish != nullptr && std::strcmp(wish, "driver") == 0) {
    complaint_ = "PARISKV_HOST_MEMORY=driver";
    return;
  }
  std::ifstream(bus_folder() + "numa_node") >> numa_node_;
  uint8_t* const memory = map_host_pages(kHugePageBytes);
  if (memory == nullptr) {
    complaint_ = "no huge page to be had";
    return;
  }
  if (register_pages(memory, kHugePageBytes, complaint_)) cudaHostUnregister(memory);
  unmap_host_pages(memory, kHugePageBytes);
}

HostArena::Piece HostArena::allocate(size_t bytes) const {
  if (complaint_.empty() && bytes >= kHugePageBytes) {
    const size_t whole_bytes = whole_huge_pages(bytes);
    uint8_t* const memory = map_host_pages(whole_bytes, numa_node_);
    if (memory == nullptr) return {nullptr, 0};
    std::string complaint;
    if (register_pages(memory, whole_bytes, complaint)) return {memory, whole_bytes};
    unmap_host_pages(memory, whole_bytes);  // too large to be registered, perhaps not for the driver's own allocator
  }
  void* memory = nullptr;
  const cudaError_t status = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return {nullptr, 0};
  }
  check(status, "cudaHostAlloc");
  const Piece piece{static_cast<uint8_t*>(memory), 0};
  if (!has_one_address(piece.memory)) {
    free(piece);
    throw unsupported("page-locked memory that host and device know by different addresses");
  }
  std::memset(piece.memory, 0, bytes);
  return piece;
}

// Failures are those of work done earlier, or of a process that ends: nobody is left to be told.
void HostArena::free(const Piece& piece) noexcept {
  if (piece.registered_bytes != 0) {
    cudaHostUnregister(piece.memory);
    unmap_host_pages(piece.memory, piece.registered_bytes);
  } else {
    cudaFreeHost(piece.memory);
  }
  cudaGetLastError();
}

}  // namespace pkv::cuda
