// Checks collide, rerank and attend against plain loops in double precision, for every instruction set of this machine.
// Prints one line a case and fails when one does not hold. Arguments: ignored, instruction set (default all).
#include <algorithm>
#include <cstdio>

#include "cpu/kv_convert.h"
#include "cpu/kv_spans.h"
#include "cpu/weight_byte.h"
#include "dense_bench.h"
#include "retrieval_scene.h"

using namespace pkv;
using namespace pkv::bench;

namespace {

int failures = 0;

void expect(bool holds, const char* what, const char* where) {
  if (holds) return;
  failures++;
  std::printf("FAILED %s: %s\n", where, what);
}

double element(const Cache& cache, const uint8_t* record, size_t i) {
  if (cache.kv_dtype == Dtype::f32) return reinterpret_cast<const float*>(record)[i];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(record)[i];
  return cache.kv_dtype == Dtype::bf16 ? cpu::bf16_to_f32(bits) : cpu::f16_to_f32(bits);
}

// Scores of all keys of one row and head; invalid keys as the cache says.
std::vector<uint16_t> score_oracle(const Scene& scene, size_t row, size_t head) {
  const Cache& cache = scene.cache;
  const Plan& plan = scene.plan;
  const auto slot = static_cast<size_t>(scene.step().slot(row));
  const size_t row_head = row * cache.kv_heads + head;
  std::vector<uint16_t> scores;
  for (uint32_t i = 0; i < static_cast<uint32_t>(cache.zone_tokens[slot]); i++) {
    uint8_t* summary = cache.summary_of(cache.page_table[slot * cache.max_pages + i / PKV_PAGE_TOKENS], 0, head);
    uint32_t best = 0;
    for (uint32_t t = 0; t < plan.tables; t++) {
      uint32_t sum = 0;
      for (uint32_t b = 0; b < cache.subspaces(); b++) {
        const uint8_t id = summary[size_t{b} * PKV_PAGE_TOKENS + i % PKV_PAGE_TOKENS];
        sum += plan.vote_tables[((row_head * plan.tables + t) * cache.subspaces() + b) * PKV_CENTROIDS + id];
      }
      best = std::max(best, sum);
    }
    const uint8_t* codes = cache.codes_of(summary) + (i % PKV_PAGE_TOKENS) * (cache.head_dim / 2);
    const bool valid = std::any_of(codes, codes + cache.head_dim / 2, [](uint8_t pair) { return pair != 0; });
    scores.push_back(valid || cache.invalid_keys[slot * cache.kv_heads + head] == 0 ? static_cast<uint16_t>(best)
                                                                                    : PKV_NO_SCORE);
  }
  return scores;
}

double estimate_oracle(const Scene& scene, size_t slot, size_t head, const float* rotated, uint32_t key) {
  const Cache& cache = scene.cache;
  uint8_t* summary = cache.summary_of(cache.page_table[slot * cache.max_pages + key / PKV_PAGE_TOKENS], 0, head);
  const uint8_t* codes = cache.codes_of(summary) + (key % PKV_PAGE_TOKENS) * (cache.head_dim / 2);
  const uint8_t* weights = cache.weights_of(summary) + (key % PKV_PAGE_TOKENS) * cache.subspaces();
  double sum = 0;
  for (uint32_t j = 0; j < cache.head_dim; j++) {
    const uint32_t nibble = codes[j / 2] >> (j % 2 * 4) & 15;
    const double value = (nibble & PKV_CODE_SIGN_BIT ? 1.0 : -1.0) * cache.centres[nibble & 7];
    sum += cpu::decode_weight(weights[j / PKV_SUBSPACE_DIM]) * value * rotated[j];
  }
  return sum;
}

// Softmax over the given records, with the log-sum-exp as the last element.
std::vector<double> attend_oracle(const Scene& scene, const float* q, const std::vector<const uint8_t*>& records) {
  const Cache& cache = scene.cache;
  const uint32_t d = cache.head_dim;
  std::vector<double> logits;
  double largest = -INFINITY, total = 0;
  for (const uint8_t* record : records) {
    double dot = 0;
    for (uint32_t j = 0; j < d; j++) dot += q[j] * element(cache, record, j);
    logits.push_back(dot / std::sqrt(double{1} * d));
    if (std::isfinite(logits.back())) largest = std::max(largest, logits.back());
  }
  std::vector<double> out(d + 1);
  for (size_t i = 0; i < records.size(); i++) {
    if (!std::isfinite(logits[i])) continue;
    const double weight = std::exp(logits[i] - largest);
    total += weight;
    for (uint32_t j = 0; j < d; j++) out[j] += weight * element(cache, records[i], d + j);
  }
  for (uint32_t j = 0; j < d; j++) out[j] = total > 0 ? out[j] / total : 0;
  out[d] = total > 0 ? largest + std::log(total) : -INFINITY;
  return out;
}

// Largest difference of attend's output of one row and head from the oracle over the same tokens.
double attend_error(Scene& scene, size_t row, size_t head) {
  const Cache& cache = scene.cache;
  const Plan& plan = scene.plan;
  const auto slot = static_cast<uint32_t>(scene.step().slot(row));
  const auto at_head = static_cast<uint32_t>(head);
  const int64_t end = scene.step().position(row) + 1;
  const bool dense = cache.budget_of(slot, 0)[PKV_BUDGET_MODE] == PKV_MODE_DENSE;
  const int64_t zone_begin = cache.sink_tokens, zone_end = zone_begin + cache.zone_tokens[slot];
  std::vector<const uint8_t*> records;
  for (int64_t position = 0; position < end; position++) {
    if (position >= zone_begin && position < zone_end) {
      if (dense)
        records.push_back(cpu::zone_record(cache, slot, 0, at_head, static_cast<uint32_t>(position - zone_begin)));
    } else {
      records.push_back(cache.window_of(slot, 0, head) + cache.window_row(position) * cache.record_bytes());
    }
  }
  const size_t row_head = row * cache.kv_heads + head;
  for (int32_t i = 0; !dense && i < plan.selected_count[row_head]; i++) {
    records.push_back(cpu::zone_record(cache, slot, 0, at_head, plan.selected[row_head * plan.max_top_k + size_t(i)]));
  }
  double error = 0;
  for (uint32_t g = 0; g < cache.query_group; g++) {
    const size_t query = row_head * cache.query_group + g;
    const auto want = attend_oracle(scene, scene.q.data() + query * cache.head_dim, records);
    for (uint32_t j = 0; j < cache.head_dim; j++) {
      const double difference = std::abs(want[j] - scene.out[query * cache.head_dim + j]);
      error = std::isfinite(difference) ? std::max(error, difference) : INFINITY;
    }
    const double log_sum = plan.stats[query * PKV_STATS_FIELDS + PKV_STATS_LSE_ATTENDED];
    if (log_sum != want[cache.head_dim]) error = std::max(error, std::abs(log_sum - want[cache.head_dim]));
  }
  return error;
}

// Largest relative difference of the estimates, and whether the selection holds the top K by them.
double rerank_error(const Scene& scene, size_t row, size_t head, bool& top_holds) {
  const Cache& cache = scene.cache;
  const Plan& plan = scene.plan;
  const auto slot = static_cast<size_t>(scene.step().slot(row));
  const size_t row_head = row * cache.kv_heads + head;
  const auto count = static_cast<size_t>(plan.candidate_count[row_head]);
  const uint32_t* candidates = plan.candidates + row_head * plan.max_candidates;
  double error = 0;
  for (uint32_t h = 0; h < plan.rotated_queries; h++) {
    const float* rotated = plan.rotated + (row_head * plan.rotated_queries + h) * cache.head_dim;
    double norm = 0;
    for (uint32_t j = 0; j < cache.head_dim; j++) norm += rotated[j] * rotated[j];
    for (size_t i = 0; i < count; i++) {
      const double want = estimate_oracle(scene, slot, head, rotated, candidates[i]);
      const double got = plan.estimates[(row_head * plan.rotated_queries + h) * plan.max_candidates + i];
      error = std::max(error, std::abs(want - got) / std::sqrt(norm));
    }
  }
  const float* priorities = plan.priorities + row_head * plan.max_candidates;
  std::vector<size_t> order(count);
  for (size_t i = 0; i < count; i++) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return priorities[a] > priorities[b]; });
  const size_t kept = std::min(count, static_cast<size_t>(cache.budget_of(slot, 0)[PKV_BUDGET_TOP_K]));
  order.resize(kept);
  std::sort(order.begin(), order.end());
  top_holds = static_cast<size_t>(plan.selected_count[row_head]) == kept;
  for (size_t i = 0; top_holds && i < kept; i++)
    top_holds = plan.selected[row_head * plan.max_top_k + i] == candidates[order[i]];
  return error;
}

void check(const SceneParams& params, const char* where, bool with_bad_keys, int argc, char** argv) {
  Scene scene(params, 2);
  const Cache& cache = scene.cache;
  if (with_bad_keys) {
    for (uint32_t slot = 0; slot < cache.slots; slot++) {
      for (uint32_t head = 0; head < cache.kv_heads; head++) {
        cache.invalid_keys[slot * cache.kv_heads + head] = 1;
        for (int32_t key = 0; key < cache.zone_tokens[slot]; key += 7) {
          const uint32_t page = cache.page_table[slot * cache.max_pages + static_cast<uint32_t>(key) / PKV_PAGE_TOKENS];
          const size_t code_bytes = cache.head_dim / 2, row = static_cast<size_t>(key % PKV_PAGE_TOKENS);
          std::memset(cache.codes_of(cache.summary_of(page, 0, head)) + row * code_bytes, 0, code_bytes);
        }
        // A key with a NaN, and V that must not leak: rows 1 and 40 of the window.
        for (size_t row : {size_t{1}, size_t{40}})
          std::memset(cache.window_of(slot, 0, head) + row * cache.record_bytes(), 0xff, cache.record_bytes());
      }
    }
  }
  for (cpu::Isa isa : instruction_sets(argc, argv)) {
    char name_of[200];
    std::snprintf(name_of, sizeof name_of, "%s %s", where, cpu::isa_name(isa));
    std::vector<float> first_out;
    for (unsigned threads : {1u, 2u}) {
      cpu::Pool pool(threads);
      cpu::Runtime runtime{pool, isa};
      cpu::collide(runtime, scene.stage());
      if (params.mode == PKV_MODE_VOTE) {
        for (size_t row = 0; row < cache.slots; row++) {
          for (size_t head = 0; head < cache.kv_heads; head++) {
            const auto want = score_oracle(scene, row, head);
            const uint16_t* got = scene.plan.scores + (row * cache.kv_heads + head) * scene.plan.max_zone_tokens;
            expect(std::equal(want.begin(), want.end(), got), "scores", name_of);
          }
        }
      }
      cpu::select(runtime, scene.stage());
      cpu::rerank(runtime, scene.stage());
      cpu::attend(runtime, scene.attend());
      double estimate_error = 0, output_error = 0;
      for (size_t row = 0; row < cache.slots; row++) {
        for (size_t head = 0; head < cache.kv_heads; head++) {
          bool top_holds = true;
          if (params.mode != PKV_MODE_DENSE)
            estimate_error = std::max(estimate_error, rerank_error(scene, row, head, top_holds));
          expect(top_holds, "top k", name_of);
          output_error = std::max(output_error, attend_error(scene, row, head));
        }
      }
      expect(estimate_error < 1e-5, "estimates", name_of);
      expect(output_error < 1e-5, "attention", name_of);
      if (threads == 1) {
        std::printf("%-60s estimates %.1e attention %.1e\n", name_of, estimate_error, output_error);
        first_out = scene.out;
      } else {
        expect(std::memcmp(first_out.data(), scene.out.data(), first_out.size() * sizeof(float)) == 0,
               "one and two threads agree", name_of);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<uint32_t> zones = {0, 1, 511, 512, 513, 5000}, locals = {1, 100, 256, 37, 200, 64};
  for (uint32_t head_dim : {64u, 128u, 256u}) {
    for (uint32_t query_group : {1u, 2u, 3u, 4u, 7u, 8u}) {
      for (int32_t mode : {PKV_MODE_VOTE, PKV_MODE_SCAN, PKV_MODE_DENSE}) {
        SceneParams params;
        params.kv_heads = 2;
        params.head_dim = head_dim;
        params.query_group = query_group;
        params.mode = mode;
        params.kv_dtype = static_cast<Dtype>((head_dim / 64 + query_group) % 3);
        params.group = static_cast<Group>((head_dim / 64 + query_group / 2) % 3);
        params.sink_tokens = 33;
        params.ring_tokens = 256;
        params.max_candidates = 5120;
        params.candidates = 300;
        params.top_k = 100;
        params.zone_tokens = zones;
        params.local_tokens = locals;
        params.seed = head_dim + query_group;
        char where[120];
        for (bool bad : {false, true}) {
          std::snprintf(where, sizeof where, "d %u group %u %s mode %d policy %u bad %d", head_dim, query_group,
                        name(params.kv_dtype), mode, static_cast<unsigned>(params.group), bad);
          check(params, where, bad, argc, argv);
        }
      }
    }
  }
  std::printf("%d failures\n", failures);
  return failures > 0;
}
