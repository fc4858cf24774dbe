// Speed of attend_causal: GFLOP/s of one prefill chunk at several positions, per instruction set. The records lie in
// one window, as they do before the first flush.
//   dense_attend_causal [threads] [portable|avx2|avx512]
#include <cstdio>
#include <vector>

#include "dense_bench.h"

using namespace pkv;

int main(int argc, char** argv) {
  cpu::Pool pool(bench::threads_of(argc, argv));
  struct Shape { uint32_t kv_heads, group, head_dim, rows, first; };
  const Shape shapes[] = {{2, 2, 128, 512, 0}, {2, 2, 128, 512, 3584}, {2, 2, 128, 512, 15872}, {2, 4, 64, 512, 3584},
                          {1, 8, 256, 256, 3584}, {2, 2, 128, 33, 3584}};
  for (const cpu::Isa isa : bench::instruction_sets(argc, argv)) {
    cpu::Runtime runtime{pool, isa};
    for (const Shape& shape : shapes) {
      const uint32_t tokens = shape.first + shape.rows;
      const size_t width = size_t{shape.kv_heads} * shape.group * shape.head_dim;
      std::vector<uint16_t> window(size_t{shape.kv_heads} * tokens * 2 * shape.head_dim);
      for (size_t i = 0; i < window.size(); i++) window[i] = static_cast<uint16_t>(0x3d00 + (i * 2654435761u >> 20) % 512);
      std::vector<float> q(shape.rows * width, 0.1f), out(shape.rows * width);
      std::vector<int32_t> table(2 * size_t{shape.rows});
      for (uint32_t r = 0; r < shape.rows; r++) table[2 * r + 1] = static_cast<int32_t>(shape.first + r);
      int32_t zone_tokens = 0;
      Cache cache{};
      cache.layers = 1;
      cache.kv_heads = shape.kv_heads;
      cache.query_group = shape.group;
      cache.head_dim = shape.head_dim;
      cache.kv_dtype = Dtype::bf16;
      cache.slots = 1;
      cache.ring_tokens = tokens;
      cache.zone_tokens = &zone_tokens;
      cache.window = reinterpret_cast<uint8_t*>(window.data());
      const AttendCausalParams params{&cache, 0, {table.data(), shape.rows}, 0, shape.rows, {q.data(), width}, {out.data(), width}};
      const double seconds = bench::best_seconds([&] { cpu::attend_causal(runtime, params); });
      const double pairs = static_cast<double>(shape.rows) * shape.first + 0.5 * shape.rows * (shape.rows + 1.0);
      std::printf("attend_causal %-8s threads %u kv heads %u x %u, head_dim %3u, rows %3u at %5u: %9.1f us  %6.1f GFLOP/s\n",
                  cpu::isa_name(isa), pool.threads(), shape.kv_heads, shape.group, shape.head_dim, shape.rows, shape.first,
                  seconds * 1e6, 4e-9 * static_cast<double>(width) * pairs / seconds);
    }
  }
}
