// embed: rows of the embedding table, widened to f32.
#include <algorithm>
#include <cstring>

#include "cpu/cpu.h"
#include "cpu/kv_convert.h"

namespace pkv::cpu {

void embed(Runtime& runtime, const EmbedParams& params) {
  // A row is a copy of some kilobytes: a task takes several of them.
  constexpr size_t kTaskRows = 16;
  const size_t tasks = (params.row_count + kTaskRows - 1) / kTaskRows;
  parallel_for(runtime.pool, tasks, [&](size_t task, unsigned) {
    const size_t end = std::min<size_t>((task + 1) * kTaskRows, params.row_count);
    for (size_t r = task * kTaskRows; r < end; r++) {
      float* out = params.out.row(r);
      const int32_t token = params.tokens[r];
      if (token < 0 || static_cast<uint32_t>(token) >= params.vocab) {
        std::fill_n(out, params.width, 0.0f);
        continue;
      }
      const size_t first = static_cast<size_t>(token) * params.width;
      const auto* floats = static_cast<const float*>(params.weight) + first;
      const auto* halves = static_cast<const uint16_t*>(params.weight) + first;
      switch (params.dtype) {
        case Dtype::f32: std::memcpy(out, floats, params.width * sizeof(float)); break;
        case Dtype::bf16: std::transform(halves, halves + params.width, out, bf16_to_f32); break;
        case Dtype::f16: std::transform(halves, halves + params.width, out, f16_to_f32); break;
      }
    }
  });
}

}  // namespace pkv::cpu
