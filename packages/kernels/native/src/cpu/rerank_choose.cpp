#include "cpu/rerank_choose.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace pkv::cpu {
namespace {

constexpr uint32_t kBlock = 16;

// The `rank`-th largest of values [count], which are put into another order.
float ranked(float* values, uint32_t count, uint32_t rank) {
  std::nth_element(values, values + (rank - 1), values + count, std::greater<float>());
  return values[rank - 1];
}

// Writes the places of all that may be among the top_k highest to scratch.places, ascending, and returns their number:
// what reaches the top_k-th of the largest of each block, for at least top_k priorities do.
uint32_t list_high(const float* priorities, uint32_t count, uint32_t top_k, RerankScratch& scratch) {
  const uint32_t blocks = (count + kBlock - 1) / kBlock;
  if (blocks <= top_k) {
    for (uint32_t i = 0; i < count; i++) scratch.places[i] = i;
    return count;
  }
  float *const largest = scratch.values, *const disordered = scratch.values + blocks;
  for (uint32_t block = 0; block < blocks; block++) {
    const uint32_t end = std::min((block + 1) * kBlock, count);
    float most = priorities[block * kBlock];
    for (uint32_t i = block * kBlock + 1; i < end; i++) most = priorities[i] > most ? priorities[i] : most;
    largest[block] = disordered[block] = most;
  }
  const float bound = ranked(disordered, blocks, top_k);
  uint32_t found = 0;
  for (uint32_t block = 0; block < blocks; block++) {
    if (largest[block] < bound) continue;
    const uint32_t end = std::min((block + 1) * kBlock, count);
    for (uint32_t i = block * kBlock; i < end; i++) {
      scratch.places[found] = i;
      found += priorities[i] >= bound;
    }
  }
  return found;
}

}  // namespace

uint32_t choose_top(float* priorities, uint32_t count, uint32_t top_k, RerankScratch& scratch) {
  for (uint32_t i = 0; i < count; i++) {
    priorities[i] = std::isfinite(priorities[i]) ? priorities[i] : -std::numeric_limits<float>::infinity();
  }
  if (count <= top_k) {
    for (uint32_t i = 0; i < count; i++) scratch.chosen[i] = i;
    return count;
  }
  if (top_k == 0) return 0;
  const uint32_t high = list_high(priorities, count, top_k, scratch);
  for (uint32_t i = 0; i < high; i++) scratch.values[i] = priorities[scratch.places[i]];
  const float threshold = ranked(scratch.values, high, top_k);
  uint32_t ties = top_k;  // of those that equal the threshold, the first so many are chosen
  for (uint32_t i = 0; i < high; i++) ties -= priorities[scratch.places[i]] > threshold;
  uint32_t chosen = 0;
  for (uint32_t i = 0; chosen < top_k; i++) {
    const float priority = priorities[scratch.places[i]];
    if (priority < threshold || (priority == threshold && ties == 0)) continue;
    ties -= priority == threshold;
    scratch.chosen[chosen++] = scratch.places[i];
  }
  return chosen;
}

}  // namespace pkv::cpu
