// Stands in for cuda/ in a build without it.
#include "core/device.h"
#include "core/error.h"

namespace pkv {

DeviceStatus cuda_status(const DeviceOptions&) { return {false, "this build has no CUDA backend"}; }

std::shared_ptr<Device> make_cuda_device(const DeviceOptions& options) {
  throw unavailable("cuda", cuda_status(options).detail);
}

}  // namespace pkv
