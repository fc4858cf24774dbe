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

struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic
  uint32_t cluster = 1;     // blocks of one cluster along x; grid.x is a multiple of it
  bool overlaps = false;    // may begin before the kernel in front of it ends: it keeps to the rules of overlap.cuh
  bool most_shared = false; // of a multiprocessor's memory as much as can be is to be shared, as little as can be a cache
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
  if (shape.most_shared) {
    // Kernels are on a multiprocessor at the same time only where they divide its memory in the same way.
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared), what);
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
