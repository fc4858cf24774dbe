// Checked CUDA calls and launches. What fails becomes the family's device error.
#pragma once
#include <cuda_runtime.h>

#include <string>
#include <utility>

#include "core/error.h"
#include "cuda/cuda.h"

namespace pkv::cuda {

// `what`: the call or the kernel, for people.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that does not stick must not be met again by the next check
  throw device_failed("cuda", std::string(what) + ": " + cudaGetErrorString(status));
}

// What becomes of a multiprocessor's memory. Two kernels are on it at the same time only where they divide it in the same way,
// and a kernel that does not ask takes it as the one in front left it, where that has room enough: beside most_shared too few
// loads find room in the cache to be under way at the same time.
enum class MemoryDivision { as_it_is, most_shared, most_cache };

struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic
  uint32_t cluster = 1;     // blocks of one cluster along x; grid.x is a multiple of it
  bool overlaps = false;    // may begin before the kernel in front of it ends: it keeps to the rules of overlap.cuh
  MemoryDivision division = MemoryDivision::as_it_is;
};

// Queues kernel<<<shape>>>(arguments...) on the runtime's stream. `what` names the kernel in errors.
template <class... Parameters, class... Arguments>
void launch(const Runtime& runtime, const char* what, void (*kernel)(Parameters...), const LaunchShape& shape,
            Arguments&&... arguments) {
  constexpr size_t kSharedWithoutRequest = 32 << 10;  // of 48 KiB, the rest is for what the kernel declares itself
  if (shape.shared_bytes > kSharedWithoutRequest) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
          what);
  }
  if (shape.division != MemoryDivision::as_it_is) {
    const int percent =
        shape.division == MemoryDivision::most_shared ? cudaSharedmemCarveoutMaxShared : cudaSharedmemCarveoutMaxL1;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, percent), what);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = runtime.stream;
  cudaLaunchAttribute attributes[2] = {};
  config.attrs = attributes;
  if (shape.cluster > 1) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = shape.cluster;
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
  }
  if (shape.overlaps && runtime.compute_capability >= 90) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), what);
}

}  // namespace pkv::cuda
