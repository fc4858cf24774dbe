#include "cpu/vote_tables.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "pkv_spec.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kMaxSubspaces = PKV_MAX_HEAD_DIM / PKV_SUBSPACE_DIM;
constexpr uint32_t kMaxQueries = 8;

// products[id] = inner product of x, [PKV_SUBSPACE_DIM], with the centroid of signs `id`, summed coordinate by coordinate.
// Doubling shares the partial sums of common low bits: the same additions in the same order, a quarter as many.
void centroid_products(const float* x, float* products) {
  products[0] = 0.0f;
  for (uint32_t j = 0; j < PKV_SUBSPACE_DIM; ++j) {
    const uint32_t half = 1u << j;
    for (uint32_t id = 0; id < half; ++id) {
      const float partial = products[id];
      products[id + half] = partial + x[j];
      products[id] = partial - x[j];
    }
  }
}

// The L1 norm of x, [PKV_SUBSPACE_DIM], which bounds its products.
float span_of(const float* x) {
  float span = 0.0f;
  for (uint32_t j = 0; j < PKV_SUBSPACE_DIM; ++j) span += std::fabs(x[j]);
  return span;
}

// Whether votes can be made with this span or scale: a zero query has no usable one, nor one that is not finite.
bool is_usable(float value) { return value > 0.0f && value < std::numeric_limits<float>::infinity(); }

// The largest span; NaN when any is.
float largest(const float* spans, uint32_t count) {
  float result = 0.0f;
  for (uint32_t i = 0; i < count; ++i) {
    if (std::isnan(spans[i])) return spans[i];
    if (spans[i] > result) result = spans[i];
  }
  return result;
}

// The products and spans behind one table: those of one query, or the sum over all queries, each divided by its largest
// span so that none drowns another; queries without a usable span are left out.
class TableSource {
 public:
  TableSource(const VoteTables& tables, uint32_t table) : tables_(tables) {
    const uint32_t first = tables.combined ? 0 : table;
    const uint32_t last = tables.combined ? tables.queries : table + 1;
    for (uint32_t query = first; query < last; ++query) {
      float own[kMaxSubspaces];
      for (uint32_t b = 0; b < tables.subspaces; ++b) own[b] = span_of(block(query, b));
      if (!tables.combined) {
        std::memcpy(spans_, own, sizeof own);
        queries_[query_count_++] = {query, 1.0f};
        continue;
      }
      const float most = largest(own, tables.subspaces);
      if (!is_usable(most)) continue;
      for (uint32_t b = 0; b < tables.subspaces; ++b) spans_[b] += own[b] / most;
      queries_[query_count_++] = {query, most};
    }
  }

  float span(uint32_t b) const { return spans_[b]; }
  float largest_span() const { return largest(spans_, tables_.subspaces); }

  // products: [PKV_CENTROIDS] of subspace b.
  void products(uint32_t b, float* products) const {
    if (!tables_.combined) return centroid_products(block(queries_[0].query, b), products);
    std::memset(products, 0, PKV_CENTROIDS * sizeof(float));
    float own[PKV_CENTROIDS];
    for (uint32_t i = 0; i < query_count_; ++i) {
      centroid_products(block(queries_[i].query, b), own);
      const float divisor = queries_[i].span;
      for (uint32_t id = 0; id < PKV_CENTROIDS; ++id) products[id] += own[id] / divisor;
    }
  }

 private:
  struct Query { uint32_t query; float span; };

  const float* block(uint32_t query, uint32_t b) const {
    return tables_.rotated + (query * tables_.subspaces + b) * PKV_SUBSPACE_DIM;
  }

  const VoteTables& tables_;
  float spans_[kMaxSubspaces] = {};
  Query queries_[kMaxQueries];
  uint32_t query_count_ = 0;
};

// Centroid ids by product, largest first, ties to the smaller id: a radix sort, whose steps do not depend on the data.
void rank_centroids(const float* products, uint8_t* ranking) {
  struct Entry { uint32_t key; uint32_t id; };
  Entry entries[PKV_CENTROIDS], sorted[PKV_CENTROIDS];
  for (uint32_t id = 0; id < PKV_CENTROIDS; ++id) {
    const float product = products[id] + 0.0f;  // -0 becomes 0: equal products must have equal bits
    uint32_t bits;
    std::memcpy(&bits, &product, sizeof bits);
    const uint32_t ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    entries[id] = {~ascending, id};
  }
  Entry* from = entries;
  Entry* to = sorted;
  for (uint32_t shift = 0; shift < 32; shift += 8) {
    uint32_t begin[257] = {};
    for (uint32_t i = 0; i < PKV_CENTROIDS; ++i) ++begin[(from[i].key >> shift & 255u) + 1];
    for (uint32_t digit = 0; digit < 256; ++digit) begin[digit + 1] += begin[digit];
    for (uint32_t i = 0; i < PKV_CENTROIDS; ++i) to[begin[from[i].key >> shift & 255u]++] = from[i];
    std::swap(from, to);
  }
  for (uint32_t rank = 0; rank < PKV_CENTROIDS; ++rank) ranking[rank] = static_cast<uint8_t>(from[rank].id);
}

}  // namespace

void graded_tables(const VoteTables& tables) {
  const size_t table_bytes = size_t{tables.subspaces} * PKV_CENTROIDS;
  for (uint32_t table = 0; table < (tables.combined ? 1 : tables.queries); ++table) {
    uint8_t* const votes = tables.tables + table * table_bytes;
    const TableSource source(tables, table);
    const float scale = static_cast<float>(PKV_MAX_VOTE) / (2.0f * source.largest_span());
    if (!is_usable(scale)) {  // the span was not, or is so small or so large that its reciprocal is not
      std::memset(votes, 0, table_bytes);
      continue;
    }
    for (uint32_t b = 0; b < tables.subspaces; ++b) {
      float products[PKV_CENTROIDS];
      source.products(b, products);
      const float span = source.span(b);
      uint8_t* const row = votes + size_t{b} * PKV_CENTROIDS;
      for (uint32_t id = 0; id < PKV_CENTROIDS; ++id) {
        // 0..PKV_MAX_VOTE: |product| <= span in f32 too, since both add in the same order and rounding is monotone.
        row[id] = static_cast<uint8_t>(static_cast<int32_t>((products[id] + span) * scale + 0.5f));
      }
    }
  }
}

void tiered_tables(const VoteTables& tables, const uint32_t* id_counts, const int32_t* limits) {
  const size_t table_bytes = size_t{tables.subspaces} * PKV_CENTROIDS;
  for (uint32_t table = 0; table < (tables.combined ? 1 : tables.queries); ++table) {
    uint8_t* const votes = tables.tables + table * table_bytes;
    const TableSource source(tables, table);
    if (!is_usable(source.largest_span())) {
      std::memset(votes, 0, table_bytes);
      continue;
    }
    for (uint32_t b = 0; b < tables.subspaces; ++b) {
      float products[PKV_CENTROIDS];
      uint8_t ranking[PKV_CENTROIDS];
      source.products(b, products);
      rank_centroids(products, ranking);
      const uint32_t* const counts = id_counts + size_t{b} * PKV_CENTROIDS;
      uint64_t keys_ahead = 0;
      for (uint32_t rank = 0; rank < PKV_CENTROIDS; ++rank) {
        const uint8_t id = ranking[rank];
        uint8_t tiers = 0;
        for (uint32_t tier = 0; tier < PKV_TIER_SHARES_PERCENT_COUNT; ++tier) {
          tiers += static_cast<uint32_t>(limits[tier]) > keys_ahead ? 1 : 0;
        }
        votes[size_t{b} * PKV_CENTROIDS + id] = tiers;
        keys_ahead += counts[id];
      }
    }
  }
}

}  // namespace pkv::cpu
