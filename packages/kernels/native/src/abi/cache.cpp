#include <algorithm>

#include "abi/check.h"
#include "abi/guard.h"

using namespace pkv;
using namespace pkv::abi;

namespace {

// Sizes the shapes before anything refers to them.
Cache shapes_of(const pkv_cache_params& params) {
  Cache view{};
  view.layers = require_range("layers", params.layers, 1);
  view.kv_heads = require_range("kv_heads", params.kv_heads, 1);
  view.query_group = require_range("query_group", params.query_group, 1, 8);
  view.head_dim = require_one_of("head_dim", params.head_dim, {64, 128, 256});
  view.kv_dtype = require_dtype("kv_dtype", params.kv_dtype);
  view.slots = require_range("slots", params.slots, 1);
  view.sink_tokens = require_range("sink_tokens", params.sink_tokens, 0);
  view.ring_tokens = require_range("ring_tokens", params.ring_tokens, 1);
  view.max_pages = require_range("max_pages", params.max_pages, 1, INT32_MAX / PKV_PAGE_TOKENS);
  view.page_capacity = require_range("page_capacity", params.page_capacity, 1);
  return view;
}

void bind_tables(Cache& view, const pkv_cache_params& params, Resolver& resolve) {
  const uint64_t entries = product({view.slots, view.layers});
  const uint64_t heads = product({entries, view.kv_heads});
  const uint64_t window_tokens = uint64_t{view.sink_tokens} + view.ring_tokens;
  view.zone_tokens = resolve.at<int32_t>("zone_tokens", params.zone_tokens, product({view.slots, 4}));
  view.page_table = resolve.at<uint32_t>("page_table", params.page_table, product({view.slots, view.max_pages, 4}));
  view.page_address = resolve.at<uint64_t>("page_address", params.page_address,
                                           product({view.page_capacity, PKV_PAGE_ADDRESS_FIELDS, 8}));
  const uint64_t window_bytes = product({heads, window_tokens, view.record_bytes()});
  view.window = view.kv_dtype == Dtype::f32
                    ? reinterpret_cast<uint8_t*>(resolve.at<float>("window", params.window, window_bytes))
                    : reinterpret_cast<uint8_t*>(resolve.at<uint16_t>("window", params.window, window_bytes));
  if (params.id_counts.buffer != nullptr) {
    view.id_counts = resolve.at<uint32_t>("id_counts", params.id_counts,
                                          product({heads, view.subspaces(), PKV_CENTROIDS, 4}));
  }
  view.invalid_keys = resolve.at<uint32_t>("invalid_keys", params.invalid_keys, product({heads, 4}));
  view.budget = resolve.at<int32_t>("budget", params.budget, product({entries, PKV_BUDGET_FIELDS, 4}));
  view.calibration = resolve.at<float>("calibration", params.calibration,
                                       product({view.layers, view.kv_heads, 2, view.head_dim, 4}));
  if (params.hot_lines == 0) return;
  view.hot_lines = require_range("hot_lines", params.hot_lines, 4, PKV_MOST_HOT_LINES);
  if ((view.hot_lines & (view.hot_lines - 1)) != 0) {
    throw invalid_argument("hot_lines", "a power of two", std::to_string(view.hot_lines));
  }
  const uint64_t lines = product({heads, view.hot_lines});
  view.hot_tags = reinterpret_cast<uint32_t*>(resolve.vectors("hot_tags", params.hot_tags, product({lines, 4})));
  view.hot_records = resolve.vectors("hot_records", params.hot_records, product({lines, view.record_bytes()}));
}

// Each workspace begins on a cache line of its own.
constexpr uint64_t kAlignBytes = 64;

struct Layout {
  std::array<size_t, kPlanFields> offsets;
  uint64_t bytes;
};

Layout layout_of(const Plan& plan) {
  const Cache& cache = *plan.cache;
  const uint64_t heads = product({plan.max_rows, cache.kv_heads});
  const std::array<uint64_t, kPlanFields> field_bytes = {
      product({heads, plan.rotated_queries, cache.head_dim, 4}),
      product({heads, plan.tables, cache.subspaces(), PKV_CENTROIDS}),
      product({heads, plan.max_zone_tokens, 2}),
      product({heads, plan.max_candidates, 4}),
      product({cache.layers, heads, 4}),
      product({heads, plan.rotated_queries, plan.max_candidates, 4}),
      product({heads, plan.max_candidates, 4}),
      product({heads, plan.max_top_k, 4}),
      product({cache.layers, heads, 4}),
      product({cache.layers, heads, cache.query_group, PKV_STATS_FIELDS, 4}),
      product({cache.layers, heads, 4}),
  };
  Layout layout{};
  for (size_t field = 0; field < kPlanFields; ++field) {
    layout.offsets[field] = layout.bytes;
    // Far above any memory and far below an overflow of the sum.
    layout.bytes += std::min(field_bytes[field], uint64_t{1} << 56) + kAlignBytes - 1;
    layout.bytes -= layout.bytes % kAlignBytes;
  }
  return layout;
}

// The workspaces of `shape` as each layer sees them.
void bind_workspaces(BoundPlan& plan, const Plan& shape) {
  uint8_t* base = plan.workspace->data();
  const auto at = [&](size_t field) { return base + plan.offsets[field]; };
  Plan view = shape;
  view.rotated = reinterpret_cast<float*>(at(PKV_PLAN_FIELD_ROTATED));
  view.vote_tables = at(PKV_PLAN_FIELD_TABLES);
  view.scores = reinterpret_cast<uint16_t*>(at(PKV_PLAN_FIELD_SCORES));
  view.candidates = reinterpret_cast<uint32_t*>(at(PKV_PLAN_FIELD_CANDIDATES));
  view.candidate_count = reinterpret_cast<int32_t*>(at(PKV_PLAN_FIELD_CANDIDATE_COUNT));
  view.estimates = reinterpret_cast<float*>(at(PKV_PLAN_FIELD_ESTIMATES));
  view.priorities = reinterpret_cast<float*>(at(PKV_PLAN_FIELD_PRIORITIES));
  view.selected = reinterpret_cast<uint32_t*>(at(PKV_PLAN_FIELD_SELECTED));
  view.selected_count = reinterpret_cast<int32_t*>(at(PKV_PLAN_FIELD_SELECTED_COUNT));
  view.stats = reinterpret_cast<float*>(at(PKV_PLAN_FIELD_STATS));
  view.hot_hits = reinterpret_cast<int32_t*>(at(PKV_PLAN_FIELD_HOT_HITS));
  const Cache& cache = *view.cache;
  const size_t heads = size_t{view.max_rows} * cache.kv_heads;
  for (uint32_t layer = 0; layer < cache.layers; ++layer) {
    plan.layers.push_back(view);
    view.candidate_count += heads;
    view.selected_count += heads;
    view.stats += heads * cache.query_group * PKV_STATS_FIELDS;
    view.hot_hits += heads;
  }
}

}  // namespace

pkv_status pkv_cache_create(pkv_context* context, const pkv_cache_params* params, pkv_cache** out) {
  return guarded([&] {
    require("out", out);
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    auto bound = std::make_shared<BoundCache>();
    bound->view = shapes_of(*params);
    bind_tables(bound->view, *params, resolve);
    bound->buffers = resolve.buffers();
    std::copy_n(&require("signs", params->signs), bound->view.head_dim, bound->signs.begin());
    std::copy_n(&require("centres", params->centres), bound->centres.size(), bound->centres.begin());
    std::copy_n(&require("thresholds", params->thresholds), bound->thresholds.size(), bound->thresholds.begin());
    bound->view.signs = bound->signs.data();
    bound->view.centres = bound->centres.data();
    bound->view.thresholds = bound->thresholds.data();
    *out = new pkv_cache{core, std::move(bound)};
  });
}

void pkv_cache_destroy(pkv_cache* cache) { delete cache; }

pkv_status pkv_plan_create(pkv_context* context, const pkv_plan_params* params, pkv_plan** out) {
  return guarded([&] {
    require("out", out);
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    auto bound = std::make_shared<BoundPlan>();
    Plan view{};
    view.cache = &resolve.cache(params->cache);
    bound->cache = params->cache->core;
    view.max_rows = require_range("max_rows", params->max_rows, 1);
    view.max_zone_tokens = require_range("max_zone_tokens", params->max_zone_tokens, 1);
    view.max_candidates = require_range("max_candidates", params->max_candidates, 1);
    view.max_top_k = require_range("max_top_k", params->max_top_k, 1);
    view.votes = static_cast<Votes>(require_one_of("votes", params->votes, {PKV_VOTES_TIERED, PKV_VOTES_GRADED}));
    view.group =
        static_cast<Group>(require_one_of("group", params->group, {PKV_GROUP_MEAN, PKV_GROUP_MAX, PKV_GROUP_SUM}));
    view.estimate_mass = require_one_of("estimate_mass", params->estimate_mass, {0, 1}) == 1;
    if (view.votes == Votes::tiered && view.cache->id_counts == nullptr) {
      throw invalid_argument("cache.id_counts", "a buffer when votes are tiered", "NULL");
    }
    view.rotated_queries = view.group == Group::mean ? 1 : view.cache->query_group;
    view.tables = view.group == Group::max ? view.cache->query_group : 1;
    const Layout layout = layout_of(view);
    bound->offsets = layout.offsets;
    view.scratch_bytes = core->device().plan_scratch_bytes(view);
    bound->workspace = core->allocate(layout.bytes + view.scratch_bytes, MemoryKind::device);
    view.scratch = bound->workspace->data() + layout.bytes;
    bind_workspaces(*bound, view);
    *out = new pkv_plan{core, std::move(bound)};
  });
}

void pkv_plan_destroy(pkv_plan* plan) {
  if (plan == nullptr) return;
  plan->context->retire(plan->core->workspace);
  delete plan;
}

pkv_status pkv_plan_buffer(pkv_plan* plan, pkv_buffer** out, uint64_t* out_bytes) {
  return guarded([&] {
    require("out", out);
    require("out_bytes", out_bytes);
    const auto& workspace = require("plan", plan).core->workspace;
    *out = new pkv_buffer{plan->context, workspace};
    *out_bytes = workspace->bytes();
  });
}

pkv_status pkv_plan_field(pkv_plan* plan, uint32_t field, uint64_t* out_offset_bytes) {
  return guarded([&] {
    require("out_offset_bytes", out_offset_bytes);
    const auto& offsets = require("plan", plan).core->offsets;
    *out_offset_bytes = offsets[require_range("field", field, 0, kPlanFields - 1)];
  });
}
