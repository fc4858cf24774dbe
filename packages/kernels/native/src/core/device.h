// What a backend is to the rest: memory, and something that does operations in order.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/operation.h"

namespace pkv {

enum class MemoryKind : uint32_t { device = PKV_MEMORY_DEVICE, pinned = PKV_MEMORY_PINNED, mapped = PKV_MEMORY_MAPPED };

// For people, in errors.
inline const char* kind_name(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::device: return "device";
    case MemoryKind::pinned: return "pinned";
    case MemoryKind::mapped: return "mapped";
  }
  return "device";
}

// A tape in the form that its device likes best.
class Program {
 public:
  virtual ~Program() = default;
};

// The context calls one function of a device at a time; only `free` may come from any thread at any time.
class Device {
 public:
  virtual ~Device() = default;
  virtual const char* name() const = 0;
  // For people: "avx512, 2 threads".
  virtual const std::string& detail() const = 0;

  // Bytes that can still be allocated; UINT64_MAX where the system does not tell.
  virtual uint64_t available_bytes(MemoryKind kind) const = 0;
  // Zeroed memory, aligned to 64 bytes at least. Throws out_of_memory.
  virtual uint8_t* allocate(size_t bytes, MemoryKind kind) = 0;
  // Does nothing for memory that free_all has taken already.
  virtual void free(uint8_t* memory) noexcept = 0;
  virtual void free_all() noexcept = 0;
  // Both copy at once, after everything queued before.
  virtual void write(uint8_t* to, const void* source, size_t bytes) = 0;
  virtual void read(const uint8_t* from, void* target, size_t bytes) = 0;

  virtual void run(const Operation& operation) = 0;
  virtual std::unique_ptr<Program> compile(std::vector<Operation> operations) = 0;
  // Runs the program to its end.
  virtual void run(Program& program) = 0;
  virtual void synchronize() = 0;
  // Bytes of Plan::scratch for a plan whose capacities are filled in.
  virtual size_t plan_scratch_bytes(const Plan& plan) const = 0;
  // The times since the last call.
  virtual VerbTimes take_times() = 0;
  // Seconds to read `bytes` once with the whole device, after everything queued before.
  virtual double time_read(const uint8_t* from, size_t bytes) = 0;
};

struct DeviceOptions {
  unsigned threads = 0;       // 0: the cores this process may use
  const char* isa = nullptr;  // null: the environment's PARISKV_CPU_ISA, else the best present
};
struct DeviceStatus {
  bool available;
  std::string detail;  // what would be used, or why it cannot be had
};

// cpu/device.cpp
DeviceStatus cpu_status(const DeviceOptions& options);
std::shared_ptr<Device> make_cpu_device(const DeviceOptions& options);
// cuda/, or core/cuda_absent.cpp in a build without it
DeviceStatus cuda_status(const DeviceOptions& options);
std::shared_ptr<Device> make_cuda_device(const DeviceOptions& options);

}  // namespace pkv
