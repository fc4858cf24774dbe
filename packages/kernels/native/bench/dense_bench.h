// What the dense benches and checks share: the instruction sets of this machine, a clock, names.
#pragma once
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cpu/cpu.h"
#include "cpu/isa.h"
#include "cpu/pool.h"

namespace pkv::bench {

// What the command line asks for: [threads] [instruction set].
inline unsigned threads_of(int argc, char** argv) { return argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 1; }

inline std::vector<cpu::Isa> instruction_sets(int argc, char** argv) {
  std::vector<cpu::Isa> sets;
  for (const cpu::Isa isa : {cpu::Isa::amx, cpu::Isa::avx512, cpu::Isa::avx2, cpu::Isa::neon, cpu::Isa::portable}) {
    if (!cpu::isa_present(isa)) continue;
    if (argc > 2 && std::strcmp(argv[2], cpu::isa_name(isa)) != 0) continue;
    sets.push_back(isa);
  }
  return sets;
}

inline const char* name(Dtype dtype) { return dtype == Dtype::f32 ? "f32" : dtype == Dtype::bf16 ? "bf16" : "f16"; }

// Best of at least five runs and a fifth of a second.
template <class Body>
double best_seconds(Body&& body) {
  using Clock = std::chrono::steady_clock;
  body();
  double best = 1e30, total = 0;
  for (int runs = 0; runs < 5 || total < 0.2; runs++) {
    const auto start = Clock::now();
    body();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = seconds < best ? seconds : best;
    total += seconds;
  }
  return best;
}

}  // namespace pkv::bench
