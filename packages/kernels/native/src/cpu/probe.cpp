// probe: rotates the queries of every KV head and makes its vote tables (docs/mathematics.md §3 and §4). Exact.
#include <cstring>

#include "cpu/cpu.h"
#include "cpu/rotate.h"
#include "cpu/step_rows.h"
#include "cpu/vote_tables.h"

namespace pkv::cpu {
namespace {

// q' = D * q of each query of the group, averaged first under `mean`, then rotated. q: [group, head_dim].
void rotate_queries(const float* q, const Cache& cache, const float* balance, bool averaged, float* rotated) {
  const uint32_t head_dim = cache.head_dim, group = cache.query_group;
  for (uint32_t query = 0; query < group; ++query) {
    const float* const from = q + size_t{query} * head_dim;
    float* const to = averaged ? rotated : rotated + size_t{query} * head_dim;
    const bool adds = averaged && query > 0;
    for (uint32_t j = 0; j < head_dim; ++j) {
      const float balanced = balance[j] * from[j];
      to[j] = adds ? to[j] + balanced : balanced;
    }
  }
  if (averaged) {
    const float share = 1.0f / static_cast<float>(group);
    for (uint32_t j = 0; j < head_dim; ++j) rotated[j] *= share;
  }
  for (uint32_t query = 0; query < (averaged ? 1 : group); ++query) {
    rotate(rotated + size_t{query} * head_dim, cache.signs, head_dim);
  }
}

}  // namespace

void probe(Runtime& runtime, const ProbeParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const uint32_t subspaces = cache.subspaces();
  parallel_for(runtime.pool, size_t{params.step.row_count} * cache.kv_heads, [&](size_t index, unsigned) {
    const size_t row = index / cache.kv_heads, head = index % cache.kv_heads;
    const int32_t mode = row_mode(cache, params.layer, params.step, row);
    if (mode != PKV_MODE_VOTE && mode != PKV_MODE_SCAN) return;
    const size_t slot = static_cast<size_t>(params.step.slot(row));
    const float* const balance =
        cache.calibration + ((size_t{params.layer} * cache.kv_heads + head) * 2 + 1) * cache.head_dim;
    const float* const q = params.q.row(row) + head * cache.query_group * cache.head_dim;
    float* const rotated = plan.rotated + index * plan.rotated_queries * cache.head_dim;
    rotate_queries(q, cache, balance, plan.group == Group::mean, rotated);

    VoteTables tables{rotated, plan.rotated_queries, subspaces, plan.group == Group::sum,
                      plan.vote_tables + index * plan.tables * subspaces * PKV_CENTROIDS};
    if (plan.votes == Votes::graded) return graded_tables(tables);
    const size_t entry = (slot * cache.layers + params.layer) * cache.kv_heads + head;
    tiered_tables(tables, cache.id_counts + entry * subspaces * PKV_CENTROIDS,
                  cache.budget_of(slot, params.layer) + PKV_BUDGET_TIER_0);
  });
}

}  // namespace pkv::cpu
