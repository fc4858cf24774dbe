#include "cuda/device_status.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <fstream>

namespace pkv::cuda {
namespace {

// Asked whether this build has code for the device.
__global__ void nothing() {}

std::string version_name(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 100 / 10);
}

// The first word of a file; empty where it cannot be read.
std::string first_word(const std::string& path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

// "5.0" for a link of 32 GT/s; empty where the system does not tell.
std::string link_generation(const std::string& speed) {
  const std::pair<const char*, const char*> generations[] = {{"2.5", "1.0"},  {"5.0", "2.0"},  {"8.0", "3.0"},
                                                             {"16.0", "4.0"}, {"32.0", "5.0"}, {"64.0", "6.0"}};
  for (const auto& [giga_transfers, generation] : generations) {
    if (speed == giga_transfers) return generation;
  }
  return "";
}

// ", PCIe 5.0 x16", or nothing. A GPU that rests may have slowed its link down: then the fastest is named as well.
std::string link_name() {
  const std::string folder = bus_folder();
  const std::string now = link_generation(first_word(folder + "current_link_speed"));
  const std::string most = link_generation(first_word(folder + "max_link_speed"));
  const std::string width = first_word(folder + "current_link_width");
  if (now.empty() || width.empty()) return "";
  return ", PCIe " + now + " x" + width + (most.empty() || most == now ? "" : " (at most " + most + ")");
}

DeviceStatus examine() {
  int driver = 0, runtime = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return {false, "no NVIDIA driver"};
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaErrorInsufficientDriver) {
    return {false,
            "an NVIDIA driver for CUDA " + version_name(driver) + ", and this build needs " + version_name(runtime)};
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && devices == 0)) return {false, "no CUDA device"};
  if (status != cudaSuccess) return {false, cudaGetErrorString(status)};

  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, kDevice); error != cudaSuccess) {
    return {false, cudaGetErrorString(error)};
  }
  const std::string capability = std::to_string(properties.major) + "." + std::to_string(properties.minor);
  if (properties.unifiedAddressing == 0) return {false, std::string(properties.name) + " without unified addressing"};
  cudaFuncAttributes attributes;
  const cudaError_t image = cudaFuncGetAttributes(&attributes, nothing);
  if (image == cudaErrorNoKernelImageForDevice || image == cudaErrorInvalidDeviceFunction ||
      image == cudaErrorUnsupportedPtxVersion) {
    return {false, std::string(properties.name) + ", and this build has no code for compute capability " + capability};
  }
  if (image != cudaSuccess) return {false, cudaGetErrorString(image)};
  char memory[32];
  std::snprintf(memory, sizeof memory, "%.1f GiB", static_cast<double>(properties.totalGlobalMem) / (1 << 30));
  const std::string module = first_word("/sys/module/nvidia/version");
  return {true, std::string(properties.name) + ", compute capability " + capability + ", " +
                    std::to_string(properties.multiProcessorCount) + " multiprocessors, " + memory + ", driver " +
                    (module.empty() ? "" : module + " ") + "for CUDA " + version_name(driver) + ", built with CUDA " +
                    version_name(runtime) + link_name()};
}

}  // namespace

std::string bus_folder() {
  char id[32] = "";
  cudaDeviceGetPCIBusId(id, sizeof id, kDevice);
  std::string folder = "/sys/bus/pci/devices/" + std::string(id) + "/";
  std::transform(folder.begin(), folder.end(), folder.begin(), [](unsigned char c) { return std::tolower(c); });
  return folder;
}

DeviceStatus device_status() {
  DeviceStatus status = examine();
  cudaGetLastError();
  return status;
}

}  // namespace pkv::cuda
