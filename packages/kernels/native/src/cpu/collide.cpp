// collide: the votes of every key of the retrieval zone (docs/mathematics.md §3). Reads the ids plane, one byte a key and
// subspace, and writes two bytes a key.
#include <algorithm>

#include "cpu/collide_kernels.h"
#include "cpu/invalid_key.h"
#include "cpu/step_rows.h"
#include "cpu/task_shares.h"

namespace pkv::cpu {
namespace {

// Pages of the smallest task: 4096 keys are a few microseconds of work, far above the price of handing out an index.
constexpr size_t kLeastTaskPages = 8;

void mark_invalid_keys(const uint8_t* codes, size_t code_bytes, uint32_t tokens, uint16_t* scores) {
  for (uint32_t i = 0; i < tokens; i++) {
    if (is_invalid_key(codes + i * code_bytes, code_bytes)) scores[i] = PKV_NO_SCORE;
  }
}

}  // namespace

ScorePage score_page(Isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa >= Isa::avx512) return score_page_avx512;
  if (isa >= Isa::avx2) return score_page_avx2;
#endif
  (void)isa;
  return score_page_portable;
}

void collide(Runtime& runtime, const StageParams& params) {
  const Plan& plan = *params.plan;
  const Cache& cache = *plan.cache;
  const ScorePage score = score_page(runtime.isa);
  const uint32_t subspaces = cache.subspaces();
  uint32_t longest = 0;
  for (size_t row = 0; row < params.step.row_count; row++) {
    if (row_mode(cache, params.layer, params.step, row) != PKV_MODE_VOTE) continue;
    longest = std::max(longest, plan_zone_tokens(plan, params.step.slot(row)));
  }
  const size_t heads = size_t{params.step.row_count} * cache.kv_heads;
  const size_t pages_a_head = (longest + size_t{PKV_PAGE_TOKENS} - 1) / PKV_PAGE_TOKENS;
  const size_t most_tasks = (pages_a_head + kLeastTaskPages - 1) / kLeastTaskPages;
  const size_t tasks = tasks_a_head(most_tasks, heads, runtime.pool.threads());
  const size_t task_tokens = tasks == 0 ? 0 : (pages_a_head + tasks - 1) / tasks * PKV_PAGE_TOKENS;

  parallel_for(runtime.pool, heads * tasks, [&](size_t index, unsigned) {
    const size_t row_head = index / tasks;
    const size_t row = row_head / cache.kv_heads;
    const size_t head = row_head % cache.kv_heads;
    if (row_mode(cache, params.layer, params.step, row) != PKV_MODE_VOTE) return;
    const int32_t slot = params.step.slot(row);
    const size_t begin = index % tasks * task_tokens;
    const size_t end = std::min<size_t>(begin + task_tokens, plan_zone_tokens(plan, slot));
    const uint32_t* pages = cache.page_table + size_t(slot) * cache.max_pages;
    const bool has_invalid =
        cache.invalid_keys[(size_t(slot) * cache.layers + params.layer) * cache.kv_heads + head] > 0;

    CollidePage page;
    page.tables = plan.vote_tables + row_head * plan.tables * subspaces * PKV_CENTROIDS;
    page.subspaces = subspaces;
    page.table_count = plan.tables;
    for (size_t token = begin; token < end; token += PKV_PAGE_TOKENS) {
      uint8_t* summary = cache.summary_of(pages[token / PKV_PAGE_TOKENS], params.layer, head);
      const size_t next = token + PKV_PAGE_TOKENS;
      page.ids = summary;
      page.next_ids = next < end ? cache.summary_of(pages[next / PKV_PAGE_TOKENS], params.layer, head) : summary;
      page.tokens = static_cast<uint32_t>(std::min<size_t>(end - token, PKV_PAGE_TOKENS));
      page.scores = plan.scores + row_head * plan.max_zone_tokens + token;
      score(page);
      if (has_invalid) mark_invalid_keys(cache.codes_of(summary), cache.head_dim / 2, page.tokens, page.scores);
    }
  });
}

}  // namespace pkv::cpu
