// The innermost loop of swiglu, once per instruction set.
#pragma once
#include <cstdint>

#include "cpu/cpu.h"

namespace pkv::cpu {

// out [width] = gate / (1 + exp(-gate)) * up. `out` may be `gate`.
using SwigluRow = void (*)(const float* gate, const float* up, uint32_t width, float* out);

void swiglu_row_portable(const float* gate, const float* up, uint32_t width, float* out);
void swiglu_row_avx2(const float* gate, const float* up, uint32_t width, float* out);
void swiglu_row_avx512(const float* gate, const float* up, uint32_t width, float* out);

// The version for an instruction set; sets without one of their own share the portable version.
SwigluRow swiglu_row(Isa);

}  // namespace pkv::cpu
