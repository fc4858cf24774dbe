// Speed of the operators that touch every element once: rmsnorm, rope, swiglu, argmax, embed.
//   dense_vectors [threads] [portable|avx2|avx512]
#include <cstdio>
#include <vector>

#include "dense_bench.h"

using namespace pkv;

int main(int argc, char** argv) {
  cpu::Pool pool(bench::threads_of(argc, argv));
  for (const cpu::Isa isa : bench::instruction_sets(argc, argv)) {
    cpu::Runtime runtime{pool, isa};
    for (const uint32_t rows : {1u, 512u}) {
      constexpr uint32_t kWidth = 4096, kHeadDim = 128, kVocab = 1024;
      std::vector<float> x(size_t{rows} * 2 * kWidth, 0.5f), out(size_t{rows} * kWidth), weight(kWidth, 1.0f);
      std::vector<uint16_t> table(size_t{kVocab} * kWidth, 0x3c00);
      std::vector<float> frequencies(kHeadDim / 2, 0.01f);
      std::vector<int32_t> tokens(rows, 7), places(2 * size_t{rows}, 100000), best(rows);
      for (uint32_t r = 0; r < rows; r++) places[2 * r] = 0;
      const auto report = [&](const char* verb, double seconds, size_t bytes) {
        std::printf("%-8s %-8s threads %u rows %3u width %u: %8.2f us  %6.1f GB/s\n", verb, cpu::isa_name(isa),
                    pool.threads(), rows, kWidth, seconds * 1e6, 1e-9 * static_cast<double>(bytes) / seconds);
      };
      const Rows wide{x.data(), 2 * kWidth}, narrow{x.data(), kWidth}, to{out.data(), kWidth};
      const size_t row_bytes = size_t{rows} * kWidth * sizeof(float);
      const EmbedParams embed{tokens.data(), table.data(), Dtype::bf16, kVocab, kWidth, rows, to};
      report("embed", bench::best_seconds([&] { cpu::embed(runtime, embed); }), row_bytes * 3 / 2);
      const RmsnormParams rmsnorm{narrow, weight.data(), 1e-5f, kWidth, 1, rows, to};
      report("rmsnorm", bench::best_seconds([&] { cpu::rmsnorm(runtime, rmsnorm); }), row_bytes * 2);
      const RopeParams rope{to, kWidth / kHeadDim, kHeadDim, frequencies.data(), {places.data(), rows}};
      report("rope", bench::best_seconds([&] { cpu::rope(runtime, rope); }), row_bytes * 2);
      const SwigluParams swiglu{wide, kWidth, rows, to};
      report("swiglu", bench::best_seconds([&] { cpu::swiglu(runtime, swiglu); }), row_bytes * 3);
      const ArgmaxParams argmax{narrow, kWidth, rows, best.data()};
      report("argmax", bench::best_seconds([&] { cpu::argmax(runtime, argmax); }), row_bytes);
    }
  }
}
