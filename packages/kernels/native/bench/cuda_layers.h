// Sequences of one length in a cache of as many layers as fill a pool of records, for steps of single layers.
//
// As real sequences have it: the layers take turns, their records together fill the pool, pages lie in shuffled order,
// and no two steps have the same queries, so that no step finds its keys in a cache or their addresses translated. Where
// queries drift about a base, as those of a text do, a hot set may keep the keys that are wanted again.
#pragma once
#include <numeric>

#include "cuda_queries.h"

namespace bench {

constexpr uint32_t kKvHeads = 8, kQueryGroup = 4, kHeadDim = 128, kQueryHeads = kKvHeads * kQueryGroup;
constexpr uint32_t kQueryWidth = kQueryHeads * kHeadDim, kSubspaces = kHeadDim / PKV_SUBSPACE_DIM;
// The ring as full as it gets with a local window of 256: the costliest step.
constexpr uint32_t kSinkTokens = 64, kRingTokens = 1024, kRingUsedTokens = 768;
constexpr uint64_t kRecordBytes = 2 * kHeadDim * 2;
constexpr uint64_t kHeadPageRecordBytes = PKV_PAGE_TOKENS * kRecordBytes;
// What summaries repeat: a prime number of pages, so that the pages of a layer and head, a constant number of pages apart, have
// keys of their own. Many copies of few keys would make ties of all that is chosen.
constexpr uint64_t kPatternHeadPages = 2039;

// Records on the device and in mapped host memory, and the summaries of as many keys. Keys and records are random and
// know nothing of each other, which no time depends on. Records lie in slabs of a GiB, which hold runs of 16 pages:
// [layers, pages of the run, kKvHeads, 512, 2, kHeadDim] bf16, as in a slab of the memory manager.
struct Pools {
  Pools(const Side& side, uint64_t record_bytes)
      : head_pages(record_bytes / kHeadPageRecordBytes),
        slab_bytes(std::min(kSlabBytes, head_pages * kHeadPageRecordBytes)),
        summaries(side.allocate(head_pages * PKV_SUMMARY_128_HEAD_PAGE_BYTES)) {
    const std::vector<uint8_t> records = bf16_of(normals(1 << 23, 1));
    for (uint64_t done = 0; done < head_pages * kHeadPageRecordBytes; done += slab_bytes) {
      device.push_back(side.allocate(slab_bytes));
      fill(side, device.back(), slab_bytes, records);
      mapped.push_back(side.allocate(slab_bytes, PKV_MEMORY_MAPPED));
      copy(side, device.back(), mapped.back(), 0, slab_bytes);
    }
    fill(side, summaries, head_pages * PKV_SUMMARY_128_HEAD_PAGE_BYTES, random_summaries());
    must(pkv_context_synchronize(side.context()));
  }
  struct Place {
    uint64_t address, layer_bytes;  // of the records of layer 0, and from one layer's to the next
  };
  // Where page number `page` lies; slabs hold whole pages.
  Place place_of(bool on_device, uint64_t page, uint64_t layers) const {
    constexpr uint64_t kLayerPageBytes = kKvHeads * kHeadPageRecordBytes;
    const uint64_t slab_pages = slab_bytes / (layers * kLayerPageBytes), in_slab = page % slab_pages;
    const uint64_t in_run = in_slab % kRunPages, first = in_slab - in_run;
    const uint64_t run_pages = std::min(kRunPages, slab_pages - first);
    const uint64_t slab = Side::address((on_device ? device : mapped)[page / slab_pages]);
    return {slab + (first * layers + in_run) * kLayerPageBytes, run_pages * kLayerPageBytes};
  }
  static std::vector<uint8_t> random_summaries() {
    std::mt19937_64 random(2);
    std::vector<uint8_t> bytes(kPatternHeadPages * PKV_SUMMARY_128_HEAD_PAGE_BYTES);
    for (size_t i = 0; i < bytes.size(); i += 8) {
      const uint64_t word = random();
      std::memcpy(&bytes[i], &word, 8);
    }
    for (uint64_t page = 0; page < kPatternHeadPages; ++page) {
      uint8_t* const weights = &bytes[page * PKV_SUMMARY_128_HEAD_PAGE_BYTES + PKV_SUMMARY_128_WEIGHTS_OFFSET_BYTES];
      for (uint32_t i = 0; i < PKV_PAGE_TOKENS * kSubspaces; ++i) weights[i] = 120 + weights[i] % 16;  // around 1
    }
    return bytes;
  }

  static constexpr uint64_t kSlabBytes = uint64_t{1} << 30, kRunPages = 16;
  uint64_t head_pages;  // pages of one layer and KV head
  uint64_t slab_bytes;
  std::vector<Buffer> device, mapped;
  Buffer summaries;
};

struct Policy {
  const char* name;
  uint32_t votes, group;
  double candidate_share;
  uint32_t least_candidates_a_key;  // how many times K candidates there are at least
};

class Layers {
 public:
  Layers(const Side& side, const Pools& pools, uint32_t zone_tokens, uint32_t batch)
      : zone_tokens(zone_tokens), batch(batch), side_(side), pools_(pools), codec_(kHeadDim) {
    const uint64_t pages = uint64_t{batch} * (zone_tokens / PKV_PAGE_TOKENS);
    if (pages * kKvHeads > pools.head_pages) throw std::runtime_error("the pool is too small for one layer");
    // A power of two, as the pool and its slabs are, so that pages do not straddle slabs.
    for (layers = 32; layers > 1 && layers * pages * kKvHeads > pools.head_pages;) layers /= 2;
    const uint64_t heads = uint64_t{batch} * layers * kKvHeads;
    zones_ = side.upload(std::vector<int32_t>(batch, static_cast<int32_t>(zone_tokens)));
    std::vector<uint32_t> order(pages);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(3));
    page_table_ = side.upload(order);
    page_address_ = side.allocate(pages * PKV_PAGE_ADDRESS_FIELDS * 8);
    const uint64_t window_bytes = heads * (kSinkTokens + kRingTokens) * kRecordBytes;
    window_ = side.allocate(window_bytes);
    fill(side, window_, window_bytes, bf16_of(normals(1 << 20, 4)));
    id_counts_ = side.upload(std::vector<uint32_t>(heads * kSubspaces * PKV_CENTROIDS, zone_tokens / PKV_CENTROIDS));
    invalid_keys_ = side.allocate(heads * 4);
    budget_ = side.allocate(uint64_t{batch} * layers * PKV_BUDGET_FIELDS * 4);
    calibration_ = side.upload(codec_.identity(uint64_t{layers} * kKvHeads));
    make_cache(0);
    std::vector<int32_t> rows;
    for (uint32_t slot = 0; slot < batch; ++slot)
      rows.insert(rows.end(), {static_cast<int32_t>(slot),
                               static_cast<int32_t>(kSinkTokens + zone_tokens + kRingUsedTokens - 1)});
    rows_ = side.upload(rows);
    steps = (kLeastSteps + layers - 1) / layers * layers;
    queries_ = std::make_unique<Queries>(side, layers, steps, uint64_t{batch} * kQueryWidth);
    out_ = side.allocate(uint64_t{batch} * kQueryWidth * 4);
  }

  void place_records(bool on_device) {
    const uint64_t page_heads = uint64_t{layers} * kKvHeads;
    const uint64_t summaries = Side::address(pools_.summaries);
    std::vector<uint64_t> addresses;
    for (uint64_t page = 0; page < uint64_t{batch} * (zone_tokens / PKV_PAGE_TOKENS); ++page) {
      addresses.push_back(summaries + page * page_heads * PKV_SUMMARY_128_HEAD_PAGE_BYTES);
      const Pools::Place records = pools_.place_of(on_device, page, layers);
      addresses.insert(addresses.end(), {records.address, records.layer_bytes});
    }
    Side::write(page_address_, addresses);
  }

  // A hot set is empty at first.
  void plan_for(const Policy& policy, uint32_t k, bool with_hot_set = false) {
    top_k = k;
    if (with_hot_set || hot_lines > 0) make_cache(with_hot_set ? hot_lines_for(k) : 0);
    const double share = std::ceil(policy.candidate_share * zone_tokens);
    candidates = std::min(zone_tokens, std::max(static_cast<uint32_t>(share), policy.least_candidates_a_key * k));
    pkv_plan_params params = {};
    params.cache = cache_.get();
    params.max_rows = batch;
    params.max_zone_tokens = zone_tokens;
    params.max_candidates = candidates;
    params.max_top_k = k;
    params.votes = policy.votes;
    params.group = policy.group;
    pkv_plan* plan = nullptr;
    must(pkv_plan_create(side_.context(), &params, &plan));
    plan_.reset(plan);
    set_mode(PKV_MODE_VOTE);
  }
  void set_mode(uint32_t mode) {
    constexpr uint32_t percents[] = PKV_TIER_SHARES_PERCENT;
    constexpr double kActivatedShare = 0.2;  // the paper's, for long zones
    std::vector<int32_t> budgets;
    for (uint32_t i = 0; i < batch * layers; ++i) {
      for (const uint32_t value : {mode, candidates, top_k}) budgets.push_back(static_cast<int32_t>(value));
      for (const uint32_t percent : percents)
        budgets.push_back(static_cast<int32_t>(std::ceil(zone_tokens * kActivatedShare * percent / 100)));
    }
    Side::write(budget_, budgets);
  }

  // Seconds of one step of one layer; `stage` is a verb, or "whole". A hot set is given the steps first that it takes to fill.
  Spread time(const std::string& stage, int runs, uint32_t step_count) {
    const Owned<pkv_tape> tape = side_.record([&] {
      for (uint32_t step = 0; step < step_count; ++step) queue(stage, step);
    });
    const uint32_t warm_steps = hot_lines > 0 ? kFillSteps * layers : 1;
    const auto warm_runs = static_cast<int>(std::max(2u, (warm_steps + step_count - 1) / step_count));
    const Spread spread = time_tape(side_, tape, runs, [&] { queries_->draw(drift); }, warm_runs);
    return {spread.median / step_count, spread.low / step_count, spread.high / step_count};
  }

  // Of the keys that the last step of each layer fetched, the share that the hot set had.
  double hit_rate() const {
    pkv_buffer* all = nullptr;
    uint64_t bytes = 0;
    must(pkv_plan_buffer(plan_.get(), &all, &bytes));
    const Buffer workspaces(all);
    const auto sum = [&](uint32_t field) {  // [layers, rows, kKvHeads] i32
      uint64_t offset_bytes = 0;
      must(pkv_plan_field(plan_.get(), field, &offset_bytes));
      const auto counts = Side::read<int32_t>(workspaces, size_t{layers} * batch * kKvHeads, offset_bytes);
      return std::accumulate(counts.begin(), counts.end(), 0.0);
    };
    return sum(PKV_PLAN_FIELD_HOT_HITS) / sum(PKV_PLAN_FIELD_SELECTED_COUNT);
  }

  uint32_t zone_tokens, batch, layers = 0, candidates = 0, top_k = 0;
  uint32_t hot_lines = 0;  // of a row, layer and KV head
  double drift = 1;        // of the queries of a layer, from step to step
  uint32_t steps = 0;      // of one tape: a whole number of rounds over the layers, enough that its launch weighs little

 private:
  static constexpr uint32_t kLeastSteps = 64, kFillSteps = 16;

  // Room for the keys of four steps, as far as a hot set goes.
  static uint32_t hot_lines_for(uint32_t k) {
    uint32_t lines = 4;
    while (lines < 4 * k && lines < PKV_MOST_HOT_LINES) lines *= 2;
    return lines;
  }
  void make_cache(uint32_t lines) {
    hot_lines = lines;
    const uint64_t all_lines = uint64_t{batch} * layers * kKvHeads * lines;
    hot_tags_ = side_.allocate(all_lines * 4);
    hot_records_ = side_.allocate(all_lines * kRecordBytes);
    pkv_cache_params params = {};
    params.layers = layers;
    params.kv_heads = kKvHeads;
    params.query_group = kQueryGroup;
    params.head_dim = kHeadDim;
    params.kv_dtype = PKV_DTYPE_BF16;
    params.slots = batch;
    params.sink_tokens = kSinkTokens;
    params.ring_tokens = kRingTokens;
    params.max_pages = zone_tokens / PKV_PAGE_TOKENS;
    params.page_capacity = batch * params.max_pages;
    params.zone_tokens.buffer = zones_.get();
    params.page_table.buffer = page_table_.get();
    params.page_address.buffer = page_address_.get();
    params.window.buffer = window_.get();
    params.id_counts.buffer = id_counts_.get();
    params.invalid_keys.buffer = invalid_keys_.get();
    params.budget.buffer = budget_.get();
    params.calibration.buffer = calibration_.get();
    params.hot_lines = hot_lines;
    params.hot_tags.buffer = hot_tags_.get();
    params.hot_records.buffer = hot_records_.get();
    codec_.put(params);
    pkv_cache* cache = nullptr;
    must(pkv_cache_create(side_.context(), &params, &cache));
    cache_.reset(cache);
  }
  void queue(const std::string& stage, uint32_t step) {
    const uint32_t layer = step % layers;
    const pkv_step rows = {{rows_.get(), 0}, batch};
    const pkv_ref queries = queries_->of_step(step);
    const pkv_rows q = {queries.buffer, queries.offset_bytes, kQueryWidth};
    const pkv_stage_params params = {plan_.get(), layer, rows};
    const pkv_probe_params probe = {plan_.get(), layer, rows, q};
    const pkv_attend_params attend = {plan_.get(), layer, rows, q, {out_.get(), 0, kQueryWidth}};
    const bool all = stage == "whole";
    if (all || stage == "probe") must(pkv_probe(side_.context(), &probe));
    if (all || stage == "collide") must(pkv_collide(side_.context(), &params));
    if (all || stage == "select") must(pkv_select(side_.context(), &params));
    if (all || stage == "rerank") must(pkv_rerank(side_.context(), &params));
    if (all || stage == "attend") must(pkv_attend(side_.context(), &attend));
  }

  const Side& side_;
  const Pools& pools_;
  Codec codec_;
  Buffer zones_, page_table_, page_address_, window_, id_counts_, invalid_keys_, budget_, calibration_;
  Buffer hot_tags_, hot_records_, rows_, out_;
  std::unique_ptr<Queries> queries_;
  Owned<pkv_cache> cache_;
  Owned<pkv_plan> plan_;
};

}  // namespace bench
