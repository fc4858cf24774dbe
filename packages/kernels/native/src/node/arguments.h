// Positional arguments, read from left to right. The first wrong one throws; what is read after it is empty.
#pragma once
#include <napi.h>

#include <string>

#include "node/failure.h"
#include "node/handle.h"
#include "pkv.h"

namespace pkv::node {

struct Bytes {
  void* data;
  size_t length;
};

class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  Napi::Env env() const { return info_.Env(); }
  bool ok() const { return ok_; }

  // An integer in [0, 2^53).
  uint64_t u64(const char* name);
  // An integer in [0, 2^32).
  uint32_t u32(const char* name);
  float f32(const char* name);
  bool boolean(const char* name);
  // Text, or empty for null.
  std::string text(const char* name);
  // The bytes of a typed array.
  Bytes bytes(const char* name);
  // The elements of a Float32Array of at least `length`.
  const float* floats(const char* name, size_t length);

  template <class T>
  Holder<T>* holder() {
    const Napi::Value value = next();
    if (!ok_) return nullptr;
    Holder<T>* const found = unwrap<T>(value);
    if (found == nullptr) fail(HandleKind<T>::noun, "a handle of this addon");
    return found;
  }
  template <class T>
  T* handle() {
    Holder<T>* const found = holder<T>();
    if (found == nullptr) return nullptr;
    if (found->handle == nullptr) {
      ok_ = false;
      throw_disposed(env(), HandleKind<T>::noun);
    }
    return found->handle;
  }
  pkv_context* context() { return handle<pkv_context>(); }

  // Buffer and byte offset.
  pkv_ref ref();
  // Buffer or null, and byte offset.
  pkv_ref optional_ref();
  // Buffer, byte offset and row stride.
  pkv_rows rows();
  // Buffer, byte offset and number of rows.
  pkv_step step();

 private:
  Napi::Value next() { return info_[position_++]; }
  void fail(const char* name, const char* expected);

  const Napi::CallbackInfo& info_;
  size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace pkv::node
