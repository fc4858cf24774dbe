// Times of one decode step of one layer at 16K, 32K and 128K tokens x 8 KV heads, group 4, head_dim 128, bf16: collide,
// select, rerank and attend at K = 100 and 2, 5 and 10 % candidates, against dense attention. Shares are of the
// bandwidth that plain multi-threaded reading reaches on the same machine in the same run. Arguments: threads (1),
// instruction set (all).
#include <algorithm>
#include <cstdio>

#include "dense_bench.h"
#include "retrieval_scene.h"

using namespace pkv;
using namespace pkv::bench;

namespace {

// GB/s of reading `bytes` from all threads, in pieces of 64 KiB.
double read_bandwidth(Parallel& pool, const uint8_t* memory, size_t bytes) {
  constexpr size_t piece = size_t{1} << 16;
  std::vector<uint64_t> sums(pool.threads() * 8);
  const double seconds = best_seconds([&] {
    parallel_for(pool, bytes / piece, [&](size_t index, unsigned thread) {
      const auto* words = reinterpret_cast<const uint64_t*>(memory + index * piece);
      uint64_t lanes[8] = {};
      for (size_t i = 0; i < piece / sizeof(uint64_t); i += 8) {
        __builtin_prefetch(words + i + 512);
        for (size_t j = 0; j < 8; j++) lanes[j] += words[i + j];
      }
      for (uint64_t lane : lanes) sums[thread * 8] += lane;
    });
  });
  if (sums[0] == 1) std::printf(" ");  // the sums are used
  return static_cast<double>(bytes) / seconds * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned threads = threads_of(argc, argv);
  cpu::Pool pool(threads);
  for (cpu::Isa isa : instruction_sets(argc, argv)) {
    for (uint32_t zone : {16384u, 32768u, 131072u}) {
      for (Group group : {Group::mean, Group::max}) {
        SceneParams params;
        params.zone_tokens = {zone};
        params.group = group;
        Scene scene(params, threads);
        cpu::Runtime runtime{pool, isa};
        const Cache& cache = scene.cache;
        const double tokens = static_cast<double>(scene.step().position(0) + 1);
        const double dense_bytes = tokens * cache.kv_heads * static_cast<double>(cache.record_bytes());
        const double bandwidth = read_bandwidth(pool, scene.page_records, scene.page_records_bytes);
        scene.set_budget(PKV_MODE_DENSE, 0, 0);
        const double dense = best_seconds([&] { cpu::attend(runtime, scene.attend()); });
        std::printf("%s, %u threads, %uK, %s: reading %.1f GB/s; dense %.0f us, %.1f GB/s, %.0f %%\n",
                    cpu::isa_name(isa), threads, zone / 1024, group == Group::max ? "max" : "mean", bandwidth,
                    dense * 1e6, dense_bytes / dense * 1e-9, dense_bytes / dense * 1e-7 / bandwidth);
        for (uint32_t percent : {2u, 5u, 10u}) {
          scene.set_budget(PKV_MODE_VOTE, static_cast<int32_t>(zone * percent / 100), 100);
          const double collide = best_seconds([&] { cpu::collide(runtime, scene.stage()); });
          const double select = best_seconds([&] { cpu::select(runtime, scene.stage()); });
          const double rerank = best_seconds([&] { cpu::rerank(runtime, scene.stage()); });
          const double attend = best_seconds([&] { cpu::attend(runtime, scene.attend()); });
          const double sum = collide + select + rerank + attend;
          const double ids = static_cast<double>(zone) * cache.kv_heads * cache.subspaces();
          std::printf(
              "  %2u %%: collide %5.0f us (%4.1f GB/s, %2.0f %%)  select %4.0f  rerank %5.0f  attend %4.0f  in all "
              "%5.0f: %.1f x dense\n",
              percent, collide * 1e6, ids / collide * 1e-9, ids / collide * 1e-7 / bandwidth, select * 1e6,
              rerank * 1e6, attend * 1e6, sum * 1e6, dense / sum);
        }
      }
    }
  }
}
