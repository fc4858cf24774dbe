// The choice among rerank's candidates, with ties and without, against sorting.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "check.h"
#include "cpu/plan_scratch.h"
#include "cpu/rerank_choose.h"
#include "numbers.h"

using namespace pkv;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void check_choice(std::vector<float> priorities, uint32_t top_k) {
  std::vector<float> ranks(priorities);
  for (float& rank : ranks) rank = std::isfinite(rank) ? rank : -kInfinity;
  std::vector<uint32_t> expected(priorities.size());
  std::iota(expected.begin(), expected.end(), 0u);
  std::stable_sort(expected.begin(), expected.end(), [&](uint32_t a, uint32_t b) { return ranks[a] > ranks[b]; });
  expected.resize(std::min<size_t>(expected.size(), top_k));
  std::sort(expected.begin(), expected.end());

  Plan plan{};
  plan.max_candidates = static_cast<uint32_t>(priorities.size());
  plan.max_top_k = top_k;
  std::vector<uint8_t> memory(cpu::RerankScratch::bytes(plan, 1));
  plan.scratch = memory.data();
  cpu::RerankScratch scratch(plan, 0);
  const uint32_t count = cpu::choose_top(priorities.data(), plan.max_candidates, top_k, scratch);
  CHECK(count == expected.size());
  CHECK(std::equal(expected.begin(), expected.end(), scratch.chosen));
  CHECK(priorities == ranks);
}

}  // namespace

void test_choose_top(void) {
  Numbers numbers(72);
  for (const uint32_t candidates : {1u, 15u, 16u, 17u, 161u, 1000u, 6529u}) {
    for (const uint32_t top_k : {0u, 1u, 9u, 10u, 11u, 100u, 999u, 7000u}) {
      const auto make = [&](auto priority) {
        std::vector<float> priorities(candidates);
        for (uint32_t i = 0; i < candidates; ++i) priorities[i] = static_cast<float>(priority(i));
        check_choice(std::move(priorities), top_k);
      };
      make([&](uint32_t) { return static_cast<float>(numbers.below(1u << 24)) - 8e6f; });
      make([&](uint32_t) { return numbers.below(7); });
      make([&](uint32_t) { return 1; });
      make([&](uint32_t) { return numbers.below(2) == 0 ? 0.0f : -0.0f; });
      make([&](uint32_t) { return numbers.below(3) == 0 ? std::nanf("") : numbers.below(2) == 0 ? kInfinity : 0.5f; });
      make([&](uint32_t) { return -kInfinity; });
      // All of the highest in one block, and one in each.
      make([&](uint32_t i) { return i / 16 == candidates / 32 ? 5 : 0; });
      make([&](uint32_t i) { return i % 16 == 3 ? 5 + numbers.below(2) : numbers.below(5); });
    }
  }
}
