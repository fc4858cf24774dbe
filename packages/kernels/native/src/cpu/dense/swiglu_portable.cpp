#include <cmath>

#include "cpu/dense/swiglu_kernels.h"

namespace pkv::cpu {

void swiglu_row_portable(const float* gate, const float* up, uint32_t width, float* out) {
  for (uint32_t c = 0; c < width; c++) out[c] = gate[c] / (1.0f + std::exp(-gate[c])) * up[c];
}

}  // namespace pkv::cpu
