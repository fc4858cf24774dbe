// The failures that cross from backends to abi/, which turns them into a status and a sentence.
#pragma once
#include <cstdint>
#include <exception>
#include <string>
#include <utility>

namespace pkv {

enum class Failure { invalid_argument, unsupported, unavailable, out_of_memory, device_failed, disposed };

// `subject`: the argument, the kind of memory, the device, or the noun of what is gone. `received`: the value or the reason.
struct Error : std::exception {
  Failure failure;
  std::string subject, expected, received;
  uint64_t requested_bytes = 0, available_bytes = 0;

  Error(Failure failure, std::string subject, std::string expected, std::string received)
      : failure(failure), subject(std::move(subject)), expected(std::move(expected)), received(std::move(received)) {}
  const char* what() const noexcept override { return received.c_str(); }
};

inline Error invalid_argument(std::string argument, std::string expected, std::string received) {
  return {Failure::invalid_argument, std::move(argument), std::move(expected), std::move(received)};
}
inline Error unsupported(std::string feature) { return {Failure::unsupported, "", "", std::move(feature)}; }
inline Error unavailable(std::string device, std::string reason) {
  return {Failure::unavailable, std::move(device), "", std::move(reason)};
}
inline Error device_failed(std::string device, std::string detail) {
  return {Failure::device_failed, std::move(device), "", std::move(detail)};
}
inline Error disposed(std::string object) { return {Failure::disposed, std::move(object), "", ""}; }
inline Error out_of_memory(std::string kind, uint64_t requested_bytes, uint64_t available_bytes) {
  Error error{Failure::out_of_memory, std::move(kind), "", ""};
  error.requested_bytes = requested_bytes;
  error.available_bytes = available_bytes;
  return error;
}

}  // namespace pkv
