#include "abi/guard.h"

#include <cstdio>

namespace pkv::abi {
namespace {

// Plain data: needs no destructor, whatever order threads and the library end in.
thread_local pkv_error last_error = {};

template <size_t Capacity>
void set(char (&to)[Capacity], const std::string& from) {
  std::snprintf(to, Capacity, "%s", from.c_str());
}

pkv_status status_of(Failure failure) {
  switch (failure) {
    case Failure::invalid_argument: return PKV_INVALID_ARGUMENT;
    case Failure::unsupported: return PKV_UNSUPPORTED;
    case Failure::unavailable: return PKV_UNAVAILABLE;
    case Failure::out_of_memory: return PKV_OUT_OF_MEMORY;
    case Failure::device_failed: return PKV_DEVICE_FAILED;
    case Failure::disposed: return PKV_DISPOSED;
  }
  return PKV_DEVICE_FAILED;
}

// The same sentences as the error classes of TypeScript.
std::string sentence(const Error& error) {
  const std::string received = " but received " + error.received + ".";
  switch (error.failure) {
    case Failure::invalid_argument: return "Expected " + error.subject + " to be " + error.expected + received;
    case Failure::unsupported: return "Expected the request to be a supported one" + received;
    case Failure::unavailable: return "Expected the " + error.subject + " backend to be available" + received;
    case Failure::out_of_memory:
      return "Expected the free " + error.subject + " memory to be at least " + std::to_string(error.requested_bytes) +
             " bytes but received " + std::to_string(error.available_bytes) + " bytes.";
    case Failure::device_failed: return "Expected device " + error.subject + " to be working" + received;
    case Failure::disposed: return "Expected the " + error.subject + " to be in use but received a disposed one.";
  }
  return error.received;
}

}  // namespace

pkv_status report(const Error& error) noexcept {
  try {
    const std::string message = sentence(error);
    last_error = {};
    last_error.status = status_of(error.failure);
    set(last_error.argument, error.subject);
    set(last_error.expected, error.expected);
    set(last_error.received, error.received);
    last_error.requested_bytes = error.requested_bytes;
    last_error.available_bytes = error.available_bytes;
    set(last_error.message, message);
    return last_error.status;
  } catch (...) {  // no memory for the sentence
    return report_bad_alloc();
  }
}

pkv_status report_bad_alloc() noexcept {
  last_error = {};
  last_error.status = PKV_OUT_OF_MEMORY;
  std::snprintf(last_error.argument, sizeof last_error.argument, "host");
  std::snprintf(last_error.message, sizeof last_error.message,
                "Expected the free host memory to be enough for this call but received a failed allocation.");
  return last_error.status;
}

pkv_status report_unknown(const char* what) noexcept {
  last_error = {};
  last_error.status = PKV_DEVICE_FAILED;
  std::snprintf(last_error.received, sizeof last_error.received, "%s", what);
  std::snprintf(last_error.message, sizeof last_error.message, "Expected the device to be working but received %s.",
                what);
  return last_error.status;
}

}  // namespace pkv::abi

void pkv_last_error(pkv_error* out) {
  if (out != nullptr) *out = pkv::abi::last_error;
}
