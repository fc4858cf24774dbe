// What can be said of the GPU without starting work on it.
#pragma once
#include "core/device.h"

namespace pkv::cuda {

constexpr int kDevice = 0;  // CUDA_VISIBLE_DEVICES says which that is

// Where the system keeps what it knows of the device's place on the bus, with a slash at the end; perhaps nowhere.
std::string bus_folder();

// A description of the device for people, or why it cannot be used. Leaves no error behind for the next check to meet.
DeviceStatus device_status();

}  // namespace pkv::cuda
