#include "core/context.h"

#include <chrono>
#include <utility>

#include "core/error.h"

namespace pkv {

Buffer::Buffer(std::shared_ptr<Device> device, size_t bytes, MemoryKind kind)
    : device_(std::move(device)), data_(device_->allocate(bytes, kind)), bytes_(bytes) {}

Buffer::~Buffer() { device_->free(data_); }

// Holds a place until the end of a block. Throws, after giving the place up, when the context was closed meanwhile.
class Context::Turn {
 public:
  explicit Turn(Context& context) : Turn(context, context.take_place()) {}
  Turn(Context& context, uint64_t place) : context_(context) {
    context_.await(place);
    if (context_.closed_) {
      context_.leave();
      throw disposed("context");
    }
  }
  ~Turn() { context_.leave(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Context& context_;
};

uint64_t Context::take_place() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return next_place_++;
}

void Context::await(uint64_t place) {
  std::unique_lock<std::mutex> lock(mutex_);
  // A plain wait would ask for the libstdc++ of GCC 12, which some supported systems lack.
  while (!turn_changed_.wait_for(lock, std::chrono::hours(1), [&] { return serving_ == place; })) {
  }
}

void Context::leave() noexcept {
  std::vector<std::shared_ptr<Buffer>> released;  // freed after the lock is
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++serving_;
    if (serving_ == next_place_) released.swap(retired_);
  }
  turn_changed_.notify_all();
}

void Context::require_open() const {
  if (closed_) throw disposed("context");
}

uint64_t Context::available_bytes(MemoryKind kind) {
  const Turn turn(*this);
  return device_->available_bytes(kind);
}

std::shared_ptr<Buffer> Context::allocate(size_t bytes, MemoryKind kind) {
  const Turn turn(*this);
  return std::make_shared<Buffer>(device_, bytes, kind);
}

void Context::retire(std::shared_ptr<Buffer> buffer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (serving_ != next_place_) retired_.push_back(std::move(buffer));
}

void Context::write(const Buffer& buffer, size_t offset_bytes, const void* source, size_t bytes) {
  const Turn turn(*this);
  device_->write(buffer.data() + offset_bytes, source, bytes);
}

void Context::read(const Buffer& buffer, size_t offset_bytes, void* target, size_t bytes) {
  const Turn turn(*this);
  device_->read(buffer.data() + offset_bytes, target, bytes);
}

void Context::record_begin() {
  require_open();
  if (recording_) throw invalid_argument("record", "called outside another record", "a call inside one");
  recording_.emplace();
}

std::shared_ptr<Tape> Context::record_end() {
  if (!recording_) throw invalid_argument("record", "begun before it ends", "an end without a beginning");
  Recording recording = std::move(*recording_);
  recording_.reset();
  const Turn turn(*this);
  auto tape = std::make_shared<Tape>();
  tape->program = device_->compile(std::move(recording.operations));
  tape->keeps = std::move(recording.keeps);
  return tape;
}

void Context::submit(const Operation& operation, const std::vector<Shared>& keeps) {
  if (recording_) {
    require_open();
    recording_->operations.push_back(operation);
    recording_->keeps.insert(recording_->keeps.end(), keeps.begin(), keeps.end());
    return;
  }
  const Turn turn(*this);
  device_->run(operation);
}

void Context::run(const Tape& tape, uint64_t place) {
  const Turn turn(*this, place);
  device_->run(*tape.program);
}

void Context::skip(uint64_t place) noexcept {
  await(place);
  leave();
}

void Context::synchronize() {
  const Turn turn(*this);
  device_->synchronize();
}

VerbTimes Context::take_times() {
  const Turn turn(*this);
  return device_->take_times();
}

double Context::time_read(const Buffer& buffer) {
  const Turn turn(*this);
  return device_->time_read(buffer.data(), buffer.bytes());
}

void Context::close() noexcept {
  if (closed_.exchange(true)) return;
  await(take_place());
  recording_.reset();
  device_->free_all();
  leave();
}

}  // namespace pkv
