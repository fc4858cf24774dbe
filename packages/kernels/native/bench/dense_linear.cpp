// Speed of linear: GFLOP/s of matrix-matrix shapes and GB/s of matrix-vector shapes, per instruction set.
//   dense_linear [threads] [portable|avx2|avx512]
#include <cstdio>
#include <vector>

#include "dense_bench.h"

using namespace pkv;

int main(int argc, char** argv) {
  cpu::Pool pool(bench::threads_of(argc, argv));
  struct Shape { uint32_t rows, in, out; };
  const Shape shapes[] = {{512, 256, 2048}, {512, 688, 256}, {512, 4096, 4096}, {1, 256, 1376}, {1, 256, 4096},
                          {1, 4096, 14336}, {4, 4096, 14336}, {8, 4096, 14336}};
  for (const cpu::Isa isa : bench::instruction_sets(argc, argv)) {
    cpu::Runtime runtime{pool, isa};
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
      for (const Shape& shape : shapes) {
        std::vector<float> x(size_t{shape.rows} * shape.in, 0.5f), out(size_t{shape.rows} * shape.out);
        std::vector<uint8_t> weight(size_t{shape.in} * shape.out * dtype_bytes(dtype), 0x3c);
        LinearParams params{{x.data(), shape.in}, weight.data(), dtype, nullptr, shape.in, shape.out, shape.rows, false,
                            {out.data(), shape.out}};
        const double seconds = bench::best_seconds([&] { cpu::linear(runtime, params); });
        std::printf("linear %-8s %-4s threads %u rows %4u in %5u out %5u: %9.1f us  %6.1f GFLOP/s  %6.1f GB/s\n",
                    cpu::isa_name(isa), bench::name(dtype), pool.threads(), shape.rows, shape.in, shape.out, seconds * 1e6,
                    2e-9 * shape.rows * shape.in * shape.out / seconds, 1e-9 * static_cast<double>(weight.size()) / seconds);
      }
    }
  }
}
