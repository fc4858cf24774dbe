// A context: one device, the order of its work, and what is being recorded.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/device.h"

namespace pkv {

// A piece of a device's memory, shared by its handle and by everything recorded or bound with it.
class Buffer {
 public:
  Buffer(std::shared_ptr<Device> device, size_t bytes, MemoryKind kind);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<Device> device_;
  uint8_t* data_;
  size_t bytes_;
};

using Shared = std::shared_ptr<const void>;

// What recorded operations need to outlive: buffers, caches, plans.
struct Recording {
  std::vector<Operation> operations;
  std::vector<Shared> keeps;
};

struct Tape {
  std::unique_ptr<Program> program;
  std::vector<Shared> keeps;
};

// Work is done in the order in which places were taken, by whichever thread took each.
class Context {
 public:
  explicit Context(std::shared_ptr<Device> device) : device_(std::move(device)) {}

  Device& device() const { return *device_; }
  // Throws disposed once close() has begun.
  void require_open() const;

  uint64_t available_bytes(MemoryKind kind);
  std::shared_ptr<Buffer> allocate(size_t bytes, MemoryKind kind);
  // Lets go of a share once the work queued so far is done: a page address table may point into it unseen.
  void retire(std::shared_ptr<Buffer> buffer);
  void write(const Buffer& buffer, size_t offset_bytes, const void* source, size_t bytes);
  void read(const Buffer& buffer, size_t offset_bytes, void* target, size_t bytes);

  bool recording() const { return recording_.has_value(); }
  void record_begin();
  std::shared_ptr<Tape> record_end();
  void record_cancel() { recording_.reset(); }
  // Runs the operation, or appends it to the recording together with what it needs to outlive.
  void submit(const Operation& operation, const std::vector<Shared>& keeps);

  uint64_t take_place();
  // Waits for the place and runs the tape there.
  void run(const Tape& tape, uint64_t place);
  // Waits for the place and does nothing there.
  void skip(uint64_t place) noexcept;

  void synchronize();
  VerbTimes take_times();
  // Seconds that the device takes to read the buffer once.
  double time_read(const Buffer& buffer);
  // Waits for what runs, refuses what waits, frees all memory. Later calls throw disposed; a second close does nothing.
  void close() noexcept;

 private:
  class Turn;
  void await(uint64_t place);
  void leave() noexcept;

  std::shared_ptr<Device> device_;
  std::optional<Recording> recording_;
  std::atomic<bool> closed_{false};
  std::mutex mutex_;
  std::condition_variable turn_changed_;
  uint64_t next_place_ = 0, serving_ = 0;
  std::vector<std::shared_ptr<Buffer>> retired_;
};

}  // namespace pkv
