// A cache filled with random sequences, as a memory manager would have filled it: the same on both devices.
#pragma once
#include <string>

#include "cuda_random.h"
#include "cuda_side.h"

namespace conformance {

// isotropic: normal. ties: copies of five vectors. invalid: keys of zero norm, NaN and infinities among normal ones,
// and short ones whose weights are zero.
enum class Keys { isotropic, ties, invalid };

struct SceneParams {
  uint32_t layers = 1, kv_heads = 2, query_group = 2, head_dim = 64, kv_dtype = PKV_DTYPE_BF16;
  uint32_t sink_tokens = 5, ring_tokens = 600;
  // By slot: retrievable tokens, then tokens in the ring, at least one.
  std::vector<uint32_t> zone_tokens = {1024}, ring_used = {100};
  Keys keys = Keys::isotropic;
  bool calibrated = false;
  uint32_t record_kind = PKV_MEMORY_MAPPED;
  uint32_t hot_lines = 0;
  uint64_t seed = 1;

  uint32_t slots() const { return static_cast<uint32_t>(zone_tokens.size()); }
  uint32_t heads() const { return layers * kv_heads; }
  uint32_t query_heads() const { return kv_heads * query_group; }
  uint32_t query_width() const { return query_heads() * head_dim; }
  uint32_t subspaces() const { return head_dim / PKV_SUBSPACE_DIM; }
  uint32_t window_tokens() const { return sink_tokens + ring_tokens; }
  uint32_t tokens(uint32_t slot) const { return sink_tokens + zone_tokens[slot] + ring_used[slot]; }
  size_t record_bytes() const { return 2 * head_dim * element_bytes(kv_dtype); }
  size_t head_summary_bytes() const { return size_t{PKV_PAGE_TOKENS} * (2 * subspaces() + head_dim / 2); }
  size_t page_summary_bytes() const { return heads() * head_summary_bytes(); }
  size_t all_hot_lines() const { return size_t{slots()} * heads() * hot_lines; }
  size_t page_record_bytes() const { return heads() * PKV_PAGE_TOKENS * record_bytes(); }
  // Of one page and layer.
  size_t layer_record_bytes() const { return kv_heads * PKV_PAGE_TOKENS * record_bytes(); }
  uint32_t max_pages() const;
  uint32_t page_capacity() const { return slots() * max_pages(); }
};

std::string describe(const SceneParams&);

// In host memory, as bytes of the buffers that a cache is made of.
struct SceneData {
  SceneParams params;
  std::vector<std::vector<uint8_t>> records;  // by slot: [layers * kv_heads, tokens, 2, head_dim] kv_dtype
  std::vector<float> queries;                 // [layers, slots, query_heads, head_dim]
  std::vector<float> calibration;             // [layers, kv_heads, 2, head_dim]
  std::vector<float> signs, centres, thresholds;
  std::vector<uint32_t> page_table;     // [slots, max_pages]
  std::vector<uint8_t> page_summaries;  // [page_capacity, layers * kv_heads, ..]
  std::vector<uint8_t> page_records;    // [layers, page_capacity, kv_heads, 512, 2, head_dim] kv_dtype
  std::vector<uint8_t> window;          // rows that hold no token are NaN
  std::vector<uint32_t> id_counts, invalid_keys;
  std::vector<int32_t> zone_tokens;

  // Draws everything; the CPU backend encodes the pages.
  SceneData(const SceneParams&, const Side& cpu);
  const uint8_t* record(uint32_t slot, uint32_t layer_head, uint32_t position) const {
    return records[slot].data() + (size_t{layer_head} * params.tokens(slot) + position) * params.record_bytes();
  }
  // Where the records of a page and layer begin in page_records.
  size_t page_records_offset(size_t page, size_t layer) const {
    return (layer * params.page_capacity() + page) * params.layer_record_bytes();
  }

 private:
  void draw(Random&);
  void lay_pages(Random&);
  void summarize(const Side& cpu);
  void lay_window();
};

// The scene on one device.
class PlacedScene {
 public:
  PlacedScene(const Side& side, const SceneData& data);
  const Side& side;
  const SceneData& data;
  Buffer zone_tokens, page_table, page_address, summaries, records, window, id_counts, invalid_keys, budget,
      calibration, hot_tags, hot_records;
  Owned<pkv_cache> cache;

  // One ladder for all slots and layers; a quarter of the zone is activated by tiers.
  void set_budget(uint32_t mode, uint32_t candidates, uint32_t top_k) const;
};

// What to place a cache with the tables of `scene` but a window of its own.
pkv_cache_params cache_params(const SceneParams&, const SceneData&);

struct Policy {
  uint32_t votes, group, max_candidates, max_top_k;
  bool estimates_mass = true;
};

// A plan on one device, and its workspaces by name.
class PlacedPlan {
 public:
  PlacedPlan(const PlacedScene& scene, const Policy& policy, uint32_t max_rows, uint32_t max_zone_tokens);
  Owned<pkv_plan> plan;
  Buffer workspace;

  template <class T>
  std::vector<T> field(uint32_t field, size_t count) const {
    return Side::read<T>(workspace, count, offset_of(field));
  }
  template <class T>
  void set_field(uint32_t field, const std::vector<T>& values) const {
    Side::write(workspace, values, offset_of(field));
  }
  uint64_t offset_of(uint32_t field) const;
};

}  // namespace conformance
