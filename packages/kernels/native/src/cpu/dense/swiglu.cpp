// swiglu: the gated activation of the MLP, silu(gate) * up.
#include <algorithm>

#include "cpu/dense/swiglu_kernels.h"

namespace pkv::cpu {

SwigluRow swiglu_row(Isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa >= Isa::avx512) return swiglu_row_avx512;
  if (isa >= Isa::avx2) return swiglu_row_avx2;
#endif
  (void)isa;
  return swiglu_row_portable;
}

void swiglu(Runtime& runtime, const SwigluParams& params) {
  // Elements of one task at least: a few microseconds of work.
  constexpr size_t kTaskElements = 8192;
  const SwigluRow row = swiglu_row(runtime.isa);
  const size_t task_rows = kTaskElements / params.width + 1;
  const size_t tasks = (params.row_count + task_rows - 1) / task_rows;
  parallel_for(runtime.pool, tasks, [&](size_t task, unsigned) {
    const size_t end = std::min<size_t>((task + 1) * task_rows, params.row_count);
    for (size_t r = task * task_rows; r < end; r++) {
      row(params.x.row(r), params.x.row(r) + params.width, params.width, params.out.row(r));
    }
  });
}

}  // namespace pkv::cpu
