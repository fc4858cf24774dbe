// One of the two devices that the conformance program compares, through the C interface.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "pkv.h"

namespace conformance {

// Throws with the message of the failure.
inline void must(pkv_status status) {
  if (status == PKV_OK) return;
  pkv_error error;
  pkv_last_error(&error);
  throw std::runtime_error(error.message);
}

struct Destroy {
  void operator()(pkv_context* context) const { pkv_context_destroy(context); }
  void operator()(pkv_buffer* buffer) const { pkv_buffer_destroy(buffer); }
  void operator()(pkv_cache* cache) const { pkv_cache_destroy(cache); }
  void operator()(pkv_plan* plan) const { pkv_plan_destroy(plan); }
  void operator()(pkv_tape* tape) const { pkv_tape_destroy(tape); }
};
template <class Handle>
using Owned = std::unique_ptr<Handle, Destroy>;
using Buffer = Owned<pkv_buffer>;

class Side {
 public:
  explicit Side(pkv_device device) {
    const pkv_context_options options = {device, 0, nullptr};
    pkv_context* context = nullptr;
    must(pkv_context_create(&options, &context));
    context_.reset(context);
  }

  pkv_context* context() const { return context_.get(); }
  const char* detail() const {
    const char* text = nullptr;
    must(pkv_context_detail(context(), &text));
    return text;
  }

  Buffer allocate(uint64_t bytes, uint32_t kind = PKV_MEMORY_DEVICE) const {
    pkv_buffer* buffer = nullptr;
    must(pkv_buffer_create(context(), bytes == 0 ? 16 : bytes, kind, &buffer));
    return Buffer(buffer);
  }
  template <class T>
  Buffer upload(const std::vector<T>& values, uint32_t kind = PKV_MEMORY_DEVICE) const {
    Buffer buffer = allocate(values.size() * sizeof(T), kind);
    write(buffer, values);
    return buffer;
  }
  template <class T>
  static void write(const Buffer& buffer, const std::vector<T>& values, uint64_t offset_bytes = 0) {
    must(pkv_buffer_write(buffer.get(), offset_bytes, values.data(), values.size() * sizeof(T)));
  }
  template <class T>
  static std::vector<T> read(const Buffer& buffer, size_t count, uint64_t offset_bytes = 0) {
    std::vector<T> values(count);
    must(pkv_buffer_read(buffer.get(), offset_bytes, values.data(), count * sizeof(T)));
    return values;
  }
  static uint64_t address(const Buffer& buffer) {
    uint64_t address = 0;
    must(pkv_buffer_address(buffer.get(), &address));
    return address;
  }

  // Calls `queue()`, at once or as a tape that is then run.
  template <class Queue>
  void run(bool as_tape, Queue&& queue) const {
    if (as_tape) {
      must(pkv_tape_run(record(queue).get()));
    } else {
      queue();
    }
  }
  template <class Queue>
  Owned<pkv_tape> record(Queue&& queue) const {
    must(pkv_record_begin(context()));
    queue();
    pkv_tape* tape = nullptr;
    must(pkv_record_end(context(), &tape));
    return Owned<pkv_tape>(tape);
  }

 private:
  Owned<pkv_context> context_;
};

}  // namespace conformance
