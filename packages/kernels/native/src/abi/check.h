// The checks behind every function of pkv.h: pointers, ranges, and that what is referenced lies inside its buffer.
#pragma once
#include <initializer_list>
#include <string>
#include <vector>

#include "abi/handles.h"
#include "core/error.h"

namespace pkv::abi {

template <class T>
T& require(const char* argument, T* pointer) {
  if (pointer == nullptr) throw invalid_argument(argument, "set", "NULL");
  return *pointer;
}

// Throws unless `value` lies in [min, max]; returns it.
uint32_t require_range(const char* argument, uint64_t value, uint64_t min, uint64_t max = INT32_MAX);
// Throws unless `value` is one of those allowed.
uint32_t require_one_of(const char* argument, uint32_t value, std::initializer_list<uint32_t> allowed);
Dtype require_dtype(const char* argument, uint32_t value);

// A product that saturates: an overflow becomes a size that no buffer has.
uint64_t product(std::initializer_list<uint64_t> factors);

// Turns the references of one call into addresses and collects what a recording has to keep alive.
class Resolver {
 public:
  // Throws disposed when the context is closed.
  explicit Resolver(const std::shared_ptr<Context>& context);

  template <class T>
  T* at(const char* argument, const pkv_ref& ref, uint64_t bytes) {
    return reinterpret_cast<T*>(place(argument, ref.buffer, ref.offset_bytes, bytes, alignof(T)));
  }
  // Bytes that are read and written in vectors of 16.
  uint8_t* vectors(const char* argument, const pkv_ref& ref, uint64_t bytes) {
    return place(argument, ref.buffer, ref.offset_bytes, bytes, 16);
  }
  // `row_count` rows of `width` f32.
  Rows rows(const char* argument, const pkv_rows& rows, uint32_t row_count, uint64_t width);
  Step step(const pkv_step& step, uint32_t max_rows = INT32_MAX);
  const Cache& cache(pkv_cache* cache);
  // The plan as the stages of `layer` see it.
  const Plan& plan(pkv_plan* plan, uint32_t layer);
  // A weight matrix of `elements` elements.
  const void* weight(const char* argument, const pkv_ref& ref, Dtype dtype, uint64_t elements);

  // Every buffer that was referenced, and the caches and plans.
  const std::vector<Shared>& keeps() const { return keeps_; }
  const std::vector<std::shared_ptr<Buffer>>& buffers() const { return buffers_; }

 private:
  uint8_t* place(const char* argument, pkv_buffer* buffer, uint64_t offset_bytes, uint64_t bytes, size_t align_bytes);

  const std::shared_ptr<Context>& context_;
  std::vector<Shared> keeps_;
  std::vector<std::shared_ptr<Buffer>> buffers_;
};

}  // namespace pkv::abi
