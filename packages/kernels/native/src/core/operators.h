// Parameters of every operator with resolved addresses: what abi/ hands to a backend after all checks.
// Shapes stand at the pointers, outer to inner. 64-bit byte offsets, 32-bit indices.
#pragma once
#include <cstddef>
#include <cstdint>

#include "pkv_spec.h"

// What kernels of cuda/ call, too.
#ifdef __CUDACC__
#define PKV_HOST_DEVICE __host__ __device__
#else
#define PKV_HOST_DEVICE
#endif

namespace pkv {

enum class Dtype : uint32_t { f32 = PKV_DTYPE_F32, bf16 = PKV_DTYPE_BF16, f16 = PKV_DTYPE_F16 };
enum class Votes : uint32_t { tiered = PKV_VOTES_TIERED, graded = PKV_VOTES_GRADED };
enum class Group : uint32_t { mean = PKV_GROUP_MEAN, max = PKV_GROUP_MAX, sum = PKV_GROUP_SUM };

PKV_HOST_DEVICE inline size_t dtype_bytes(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

// Row r begins at data + r * row_stride (elements).
struct Rows {
  float* data;
  size_t row_stride;
  PKV_HOST_DEVICE float* row(size_t r) const { return data + r * row_stride; }
};

// The rows of a step: [row_count, 2] i32 of slot and position. A slot of -1 is skipped.
struct Step {
  const int32_t* table;
  uint32_t row_count;
  PKV_HOST_DEVICE int32_t slot(size_t r) const { return table[r * PKV_ROW_FIELDS + PKV_ROW_SLOT]; }
  PKV_HOST_DEVICE int64_t position(size_t r) const { return table[r * PKV_ROW_FIELDS + PKV_ROW_POSITION]; }
};

struct Cache {
  uint32_t layers, kv_heads, query_group, head_dim;
  Dtype kv_dtype;
  uint32_t slots, sink_tokens, ring_tokens, max_pages, page_capacity;
  int32_t* zone_tokens;          // [slots]
  const uint32_t* page_table;    // [slots, max_pages]
  const uint64_t* page_address;  // [page_capacity, 3]: summaries, records of layer 0, bytes to those of the next layer
  uint8_t* window;               // [slots, layers, kv_heads, sink_tokens + ring_tokens, 2, head_dim] kv_dtype
  uint32_t* id_counts;           // [slots, layers, kv_heads, head_dim / 8, 256], or null without tiered votes
  uint32_t* invalid_keys;        // [slots, layers, kv_heads]
  const int32_t* budget;         // [slots, layers, PKV_BUDGET_FIELDS]
  const float* calibration;      // [layers, kv_heads, 2, head_dim]: mu, D
  uint32_t hot_lines;            // of a slot, layer and KV head; 0 without a hot set, else a power of two
  uint32_t* hot_tags;            // [slots, layers, kv_heads, hot_lines]: zone token + 1, or 0
  uint8_t* hot_records;          // [slots, layers, kv_heads, hot_lines, 2, head_dim] kv_dtype
  // Codec (host copies that live as long as the cache).
  const float* signs;       // [head_dim]
  const float* centres;     // [8]
  const float* thresholds;  // [7]

  PKV_HOST_DEVICE uint32_t query_heads() const { return kv_heads * query_group; }
  PKV_HOST_DEVICE uint32_t subspaces() const { return head_dim / PKV_SUBSPACE_DIM; }
  PKV_HOST_DEVICE size_t record_bytes() const { return size_t{2} * head_dim * dtype_bytes(kv_dtype); }
  PKV_HOST_DEVICE uint32_t window_tokens() const { return sink_tokens + ring_tokens; }
  // Of all slots.
  PKV_HOST_DEVICE size_t window_bytes() const {
    return size_t{slots} * layers * kv_heads * window_tokens() * record_bytes();
  }
  // [sink_tokens + ring_tokens] records of one slot, layer and KV head.
  PKV_HOST_DEVICE uint8_t* window_of(size_t slot, size_t layer, size_t head) const {
    return window + ((slot * layers + layer) * kv_heads + head) * window_tokens() * record_bytes();
  }
  // Row of the window that holds the token at `position` (valid while it is in the sink or in the ring).
  PKV_HOST_DEVICE uint32_t window_row(int64_t position) const {
    return position < sink_tokens ? static_cast<uint32_t>(position)
                                  : sink_tokens + static_cast<uint32_t>((position - sink_tokens) % ring_tokens);
  }
  PKV_HOST_DEVICE size_t head_page_summary_bytes() const {
    return size_t{PKV_PAGE_TOKENS} * (2 * subspaces() + head_dim / 2);
  }
  PKV_HOST_DEVICE size_t head_page_record_bytes() const { return size_t{PKV_PAGE_TOKENS} * record_bytes(); }
  // Summary planes of one page, layer and KV head: ids [B, 512] u8, codes [512, head_dim / 2] u8, weights [512, B] u8.
  PKV_HOST_DEVICE uint8_t* summary_of(size_t page_id, size_t layer, size_t head) const {
    return reinterpret_cast<uint8_t*>(page_address[page_id * PKV_PAGE_ADDRESS_FIELDS + PKV_PAGE_ADDRESS_SUMMARY]) +
           (layer * kv_heads + head) * head_page_summary_bytes();
  }
  PKV_HOST_DEVICE uint8_t* codes_of(uint8_t* summary) const { return summary + size_t{PKV_PAGE_TOKENS} * subspaces(); }
  PKV_HOST_DEVICE uint8_t* weights_of(uint8_t* summary) const {
    return summary + size_t{PKV_PAGE_TOKENS} * (subspaces() + head_dim / 2);
  }
  // [512] records of one page, layer and KV head.
  PKV_HOST_DEVICE uint8_t* records_of(size_t page_id, size_t layer, size_t head) const {
    const uint64_t* const address = page_address + page_id * PKV_PAGE_ADDRESS_FIELDS;
    return reinterpret_cast<uint8_t*>(address[PKV_PAGE_ADDRESS_RECORDS]) +
           layer * address[PKV_PAGE_ADDRESS_RECORD_LAYER_BYTES] + head * head_page_record_bytes();
  }
  // [hot_lines] tags and records of one slot, layer and KV head.
  PKV_HOST_DEVICE uint32_t* hot_tags_of(size_t slot, size_t layer, size_t head) const {
    return hot_tags + ((slot * layers + layer) * kv_heads + head) * hot_lines;
  }
  PKV_HOST_DEVICE uint8_t* hot_records_of(size_t slot, size_t layer, size_t head) const {
    return hot_records + ((slot * layers + layer) * kv_heads + head) * hot_lines * record_bytes();
  }
  PKV_HOST_DEVICE const int32_t* budget_of(size_t slot, size_t layer) const {
    return budget + (slot * layers + layer) * PKV_BUDGET_FIELDS;
  }
};

// Workspaces, as the stages of one layer see them: what a step tells about each layer (candidate_count, selected_count, stats
// and hot_hits) is kept for all layers, and these four point to the layer's own. Q rotated queries and T tables per KV
// head: 1, or query_group where the group policy asks for it.
struct Plan {
  const Cache* cache;
  uint32_t max_rows, max_zone_tokens, max_candidates, max_top_k;
  Votes votes;
  Group group;
  bool estimate_mass;                // else LSE_UNSELECTED and LSE_OTHERS of searched rows are NaN
  uint32_t rotated_queries, tables;  // Q, T
  float* rotated;                    // [max_rows, kv_heads, Q, head_dim]
  uint8_t* vote_tables;              // [max_rows, kv_heads, T, head_dim / 8, 256]
  uint16_t* scores;                  // [max_rows, kv_heads, max_zone_tokens]
  uint32_t* candidates;              // [max_rows, kv_heads, max_candidates], ascending
  int32_t* candidate_count;          // [max_rows, kv_heads]
  float* estimates;                  // [max_rows, kv_heads, Q, max_candidates]
  float* priorities;                 // [max_rows, kv_heads, max_candidates]
  uint32_t* selected;                // [max_rows, kv_heads, max_top_k], ascending
  int32_t* selected_count;           // [max_rows, kv_heads]
  float* stats;                      // [max_rows, query_heads, 3]
  int32_t* hot_hits;                 // [max_rows, kv_heads]: selected keys that attend read from the hot set
  uint8_t* scratch;                  // backend-defined, sized by the backend when the plan is made
  size_t scratch_bytes;
};

struct AppendParams { const Cache* cache; uint32_t layer; Step step; Rows k, v; };
struct StageParams { const Plan* plan; uint32_t layer; Step step; };            // collide, select, rerank
struct ProbeParams { const Plan* plan; uint32_t layer; Step step; Rows q; };
struct AttendParams { const Plan* plan; uint32_t layer; Step step; Rows q, out; };
struct PageParams { const Cache* cache; uint32_t slot, page_index, page_id; };  // encode, offload, commit

struct EmbedParams { const int32_t* tokens; const void* weight; Dtype dtype; uint32_t vocab, width, row_count; Rows out; };
struct RmsnormParams { Rows x; const float* weight; float eps; uint32_t width, groups, row_count; Rows out; };
struct LinearParams {
  Rows x; const void* weight; Dtype dtype; const float* bias;  // weight [out_width, in_width]; bias [out_width] or null
  uint32_t in_width, out_width, row_count; bool accumulate; Rows out;
};
struct RopeParams { Rows x; uint32_t heads, head_dim; const float* frequencies; Step step; };
struct SwigluParams { Rows x; uint32_t width, row_count; Rows out; };
struct ArgmaxParams { Rows x; uint32_t width, row_count; int32_t* out; };
struct AttendCausalParams { const Cache* cache; uint32_t layer; Step step; uint32_t first_row, row_count; Rows q, out; };

}  // namespace pkv
