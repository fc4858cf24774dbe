#include "node/arguments.h"

#include <cmath>

namespace pkv::node {

void Arguments::fail(const char* name, const char* expected) {
  if (ok_) throw_wrong_argument(env(), name, expected);
  ok_ = false;
}

uint64_t Arguments::u64(const char* name) {
  const Napi::Value value = next();
  if (!ok_) return 0;
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1.0;
  constexpr double kSafeIntegers = 9007199254740992.0;  // 2^53
  if (!(number >= 0.0 && number < kSafeIntegers && number == std::floor(number))) {
    fail(name, "a whole number from 0 to 2^53");
    return 0;
  }
  return static_cast<uint64_t>(number);
}

uint32_t Arguments::u32(const char* name) {
  const uint64_t value = u64(name);
  if (value <= UINT32_MAX) return static_cast<uint32_t>(value);
  fail(name, "a whole number below 2^32");
  return 0;
}

float Arguments::f32(const char* name) {
  const Napi::Value value = next();
  if (!ok_) return 0.0f;
  if (value.IsNumber()) return value.As<Napi::Number>().FloatValue();
  fail(name, "a number");
  return 0.0f;
}

bool Arguments::boolean(const char* name) {
  const Napi::Value value = next();
  if (!ok_) return false;
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  fail(name, "true or false");
  return false;
}

std::string Arguments::text(const char* name) {
  const Napi::Value value = next();
  if (!ok_ || value.IsNull()) return "";
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  fail(name, "a string or null");
  return "";
}

Bytes Arguments::bytes(const char* name) {
  const Napi::Value value = next();
  if (!ok_) return {nullptr, 0};
  if (value.IsTypedArray()) {
    const auto view = value.As<Napi::TypedArray>();
    return {static_cast<uint8_t*>(view.ArrayBuffer().Data()) + view.ByteOffset(), view.ByteLength()};
  }
  if (value.IsDataView()) {
    const auto view = value.As<Napi::DataView>();
    return {view.Data(), view.ByteLength()};
  }
  fail(name, "a typed array");
  return {nullptr, 0};
}

const float* Arguments::floats(const char* name, size_t length) {
  const Napi::Value value = next();
  if (!ok_) return nullptr;
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_float32_array) {
    const auto array = value.As<Napi::Float32Array>();
    if (array.ElementLength() >= length) return array.Data();
  }
  fail(name, "a Float32Array of the right length");
  return nullptr;
}

pkv_ref Arguments::ref() {
  pkv_buffer* const buffer = handle<pkv_buffer>();
  return {buffer, u64("offsetBytes")};
}

pkv_ref Arguments::optional_ref() {
  if (ok_ && info_[position_].IsNull()) {
    position_ += 2;
    return {nullptr, 0};
  }
  return ref();
}

pkv_rows Arguments::rows() {
  const pkv_ref at = ref();
  return {at.buffer, at.offset_bytes, u64("rowStride")};
}

pkv_step Arguments::step() {
  const pkv_ref table = ref();
  return {table, u32("rowCount")};
}

}  // namespace pkv::node
