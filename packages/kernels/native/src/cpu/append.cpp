// append: K and V of each row, rounded to the cache's element type, into the window (docs/mathematics.md §3).
#include "cpu/cpu.h"
#include "cpu/kv_narrow.h"

namespace pkv::cpu {
namespace {

void narrow(const float* from, uint32_t count, Dtype dtype, uint8_t* to) {
  if (dtype == Dtype::f32) {
    std::memcpy(to, from, size_t{count} * sizeof(float));
    return;
  }
  uint16_t* const halves = reinterpret_cast<uint16_t*>(to);
  if (dtype == Dtype::bf16) {
    for (uint32_t i = 0; i < count; ++i) halves[i] = f32_to_bf16(from[i]);
  } else {
    for (uint32_t i = 0; i < count; ++i) halves[i] = f32_to_f16(from[i]);
  }
}

}  // namespace

void append(Runtime& runtime, const AppendParams& params) {
  const Cache& cache = *params.cache;
  const size_t value_offset = cache.head_dim * dtype_bytes(cache.kv_dtype);
  parallel_for(runtime.pool, params.step.row_count, [&](size_t row, unsigned) {
    const int32_t slot = params.step.slot(row);
    if (slot < 0) return;
    const uint32_t window_row = cache.window_row(params.step.position(row));
    for (uint32_t head = 0; head < cache.kv_heads; ++head) {
      uint8_t* const record = cache.window_of(slot, params.layer, head) + window_row * cache.record_bytes();
      narrow(params.k.row(row) + size_t{head} * cache.head_dim, cache.head_dim, cache.kv_dtype, record);
      narrow(params.v.row(row) + size_t{head} * cache.head_dim, cache.head_dim, cache.kv_dtype, record + value_offset);
    }
  });
}

}  // namespace pkv::cpu
