#include "abi/check.h"
#include "abi/guard.h"

using namespace pkv;
using namespace pkv::abi;

namespace {

void require_inside(const pkv_buffer& buffer, uint64_t offset_bytes, uint64_t bytes) {
  const uint64_t whole = buffer.core->bytes();
  if (offset_bytes > whole || bytes > whole - offset_bytes) {
    throw invalid_argument("bytes", "at most " + std::to_string(offset_bytes > whole ? 0 : whole - offset_bytes) +
                                        " at byte " + std::to_string(offset_bytes),
                           std::to_string(bytes));
  }
}

MemoryKind kind_of(uint32_t kind) {
  return static_cast<MemoryKind>(require_one_of("kind", kind, {PKV_MEMORY_DEVICE, PKV_MEMORY_PINNED, PKV_MEMORY_MAPPED}));
}

}  // namespace

pkv_status pkv_available_bytes(pkv_context* context, uint32_t kind, uint64_t* out) {
  return guarded([&] {
    require("out", out);
    *out = require("context", context).core->available_bytes(kind_of(kind));
  });
}

pkv_status pkv_buffer_create(pkv_context* context, uint64_t bytes, uint32_t kind, pkv_buffer** out) {
  return guarded([&] {
    require("out", out);
    const auto& core = require("context", context).core;
    const MemoryKind memory_kind = kind_of(kind);
    if (bytes == 0) throw invalid_argument("bytes", "at least 1", "0");
    auto buffer = std::make_unique<pkv_buffer>();
    buffer->context = core;
    buffer->core = core->allocate(bytes, memory_kind);
    *out = buffer.release();
  });
}

void pkv_buffer_destroy(pkv_buffer* buffer) {
  if (buffer == nullptr) return;
  buffer->context->retire(std::move(buffer->core));
  delete buffer;
}

pkv_status pkv_buffer_address(pkv_buffer* buffer, uint64_t* out) {
  return guarded([&] {
    require("out", out) = reinterpret_cast<uint64_t>(require("buffer", buffer).core->data());
  });
}

pkv_status pkv_buffer_write(pkv_buffer* buffer, uint64_t offset_bytes, const void* source, uint64_t bytes) {
  return guarded([&] {
    require_inside(require("buffer", buffer), offset_bytes, bytes);
    if (bytes == 0) return;
    if (source == nullptr) throw invalid_argument("source", "set", "NULL");
    buffer->context->write(*buffer->core, offset_bytes, source, bytes);
  });
}

pkv_status pkv_buffer_read(pkv_buffer* buffer, uint64_t offset_bytes, void* target, uint64_t bytes) {
  return guarded([&] {
    require_inside(require("buffer", buffer), offset_bytes, bytes);
    if (bytes == 0) return;
    if (target == nullptr) throw invalid_argument("target", "set", "NULL");
    buffer->context->read(*buffer->core, offset_bytes, target, bytes);
  });
}

pkv_status pkv_buffer_time_read(pkv_buffer* buffer, double* out_seconds) {
  return guarded([&] {
    require("out_seconds", out_seconds);
    const pkv_buffer& from = require("buffer", buffer);
    *out_seconds = from.context->time_read(*from.core);
  });
}
