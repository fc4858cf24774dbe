// Vote tables of one KV head from its rotated queries, both policies (docs/mathematics.md §3). Exact: equal bytes to the reference.
#pragma once
#include <cstdint>

namespace pkv::cpu {

struct VoteTables {
  const float* rotated;  // [queries, subspaces * PKV_SUBSPACE_DIM]
  uint32_t queries;
  uint32_t subspaces;
  bool combined;    // one table of all queries together, otherwise one a query
  uint8_t* tables;  // [combined ? 1 : queries, subspaces, PKV_CENTROIDS]
};

// votes = inner product of centroid and query, shifted and scaled to 0..PKV_MAX_VOTE with one scale a table.
void graded_tables(const VoteTables&);

// votes = how many of limits [PKV_TIER_SHARES_PERCENT_COUNT] exceed the number of keys whose centroid ranks ahead.
// id_counts: [subspaces, PKV_CENTROIDS].
void tiered_tables(const VoteTables&, const uint32_t* id_counts, const int32_t* limits);

}  // namespace pkv::cpu
