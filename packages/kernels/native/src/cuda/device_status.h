// What can be said of the GPU without starting work on it.
#pragma once
#include "core/device.h"

namespace pkv::cuda {

constexpr int kDevice = 0;  // CUDA_VISIBLE_DEVICES says which that is

// A description of the device for people, or why it cannot be used. Leaves no error behind for the next check to meet.
DeviceStatus device_status();

}  // namespace pkv::cuda
