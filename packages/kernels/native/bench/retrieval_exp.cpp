// Largest relative error of the vectorised exp over every float of [-87, 0], against exp in double precision. Fails
// above the bound that exp_avx2.h and exp_avx512.h state. Arguments: ignored, instruction set (default all).
#include <cmath>
#include <cstdio>
#include <cstring>

#include "cpu/rerank_kernels.h"
#include "dense_bench.h"

int main(int argc, char** argv) {
  constexpr uint32_t chunk = 4096;
  constexpr double bound = 1e-7;
  bool holds = true;
  for (const pkv::cpu::Isa isa : pkv::bench::instruction_sets(argc, argv)) {
    double largest = 0;
    float at = 0;
    uint32_t last;
    const float lowest = -87.0f;
    std::memcpy(&last, &lowest, sizeof last);
    for (uint32_t bits = 0x80000000u; bits <= last; bits += chunk) {
      float x[chunk], y[chunk], shares[chunk] = {};
      for (uint32_t i = 0; i < chunk; i++) {
        const uint32_t one = bits + i;
        std::memcpy(&x[i], &one, sizeof one);
      }
      pkv::cpu::rerank_kernels(isa).add_softmax(x, chunk, 1, 0, y, shares);  // y = exp(1 * x - 0)
      for (uint32_t i = 0; i < chunk && bits + i <= last; i++) {
        const double want = std::exp(double{x[i]});
        const double error = std::abs(y[i] - want) / want;
        if (error > largest) largest = error, at = x[i];
      }
    }
    std::printf("%s: %.3g at %g\n", pkv::cpu::isa_name(isa), largest, double{at});
    holds = holds && largest <= bound;
  }
  return holds ? 0 : 1;
}
