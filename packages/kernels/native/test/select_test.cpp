// select on zones that are long enough for its sample, on every instruction set that is present, against sorting.
#include <algorithm>
#include <numeric>
#include <vector>

#include "check.h"
#include "cpu/cpu.h"
#include "cpu/isa.h"
#include "cpu/plan_scratch.h"
#include "cpu/pool.h"
#include "numbers.h"

using namespace pkv;

namespace {

constexpr uint32_t kSeed = 71;

std::vector<uint32_t> expected_candidates(const std::vector<uint16_t>& scores, uint32_t wanted) {
  std::vector<uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0u);
  order.erase(std::remove_if(order.begin(), order.end(), [&](uint32_t i) { return scores[i] == PKV_NO_SCORE; }),
              order.end());
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return scores[a] > scores[b]; });
  order.resize(std::min<size_t>(order.size(), wanted));
  std::sort(order.begin(), order.end());
  return order;
}

void check_selection(std::vector<uint16_t> scores, uint32_t wanted) {
  const uint32_t tokens = static_cast<uint32_t>(scores.size());
  int32_t zone_tokens = static_cast<int32_t>(tokens);
  int32_t budget[PKV_BUDGET_FIELDS] = {PKV_MODE_VOTE, static_cast<int32_t>(wanted), 1};
  const int32_t table[PKV_ROW_FIELDS] = {0, zone_tokens};
  Cache cache{};
  cache.layers = cache.kv_heads = cache.query_group = cache.slots = 1;
  cache.head_dim = 64;
  cache.zone_tokens = &zone_tokens;
  cache.budget = budget;
  Plan plan{};
  plan.cache = &cache;
  plan.max_rows = plan.rotated_queries = plan.tables = plan.max_top_k = 1;
  plan.max_zone_tokens = tokens;
  plan.max_candidates = wanted;
  plan.scores = scores.data();
  const std::vector<uint32_t> expected = expected_candidates(scores, wanted);
  for (const cpu::Isa isa : {cpu::Isa::portable, cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (!cpu::isa_present(isa)) continue;
    cpu::Pool pool(2);
    cpu::Runtime runtime{pool, isa};
    // One more than there is room for, to see that nothing is written there.
    std::vector<uint32_t> candidates(wanted + 1, 0xdeadbeef);
    int32_t count = -1;
    std::vector<uint8_t> scratch(cpu::plan_scratch_bytes(plan, pool.threads()));
    plan.candidates = candidates.data();
    plan.candidate_count = &count;
    plan.scratch = scratch.data();
    plan.scratch_bytes = scratch.size();
    cpu::select(runtime, {&plan, 0, {table, 1}});
    CHECK(count == static_cast<int32_t>(expected.size()));
    CHECK(std::equal(expected.begin(), expected.end(), candidates.begin()));
    CHECK(candidates[wanted] == 0xdeadbeef);
  }
}

}  // namespace

void test_select(void) {
  Numbers numbers(kSeed);
  for (const uint32_t tokens : {8192u, 20001u, 70003u}) {
    for (const uint32_t wanted : {1u, 20u, 777u, 8000u, 80000u}) {
      const auto make = [&](auto score) {
        std::vector<uint16_t> scores(tokens);
        for (uint32_t i = 0; i < tokens; ++i) scores[i] = static_cast<uint16_t>(score(i));
        check_selection(std::move(scores), wanted);
      };
      const uint32_t stride = tokens / 2048 | 1;
      make([&](uint32_t) { return numbers.below(PKV_SCORE_BINS); });
      make([&](uint32_t) { return numbers.below(3) + numbers.below(3) + 1000; });
      make([&](uint32_t) { return PKV_SCORE_BINS - 1; });
      make([&](uint32_t) { return 0; });
      make([&](uint32_t) { return PKV_NO_SCORE; });
      make([&](uint32_t i) { return i * uint64_t{PKV_SCORE_BINS} / tokens; });
      make([&](uint32_t) { return numbers.below(4) == 0 ? PKV_NO_SCORE : numbers.below(500); });
      // The sample sees only the best keys, so its guess is too high; and only the worst, so it is too low.
      make([&](uint32_t i) { return i % stride == 0 ? 2000 : numbers.below(100); });
      make([&](uint32_t i) { return i % stride == 0 ? 0 : numbers.below(PKV_SCORE_BINS); });
    }
  }
}
