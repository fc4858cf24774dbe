#include "cpu/rerank_choose.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace pkv::cpu {
namespace {

constexpr uint32_t kTopBits = 11, kMiddleBits = 11, kLowBits = 10;
constexpr uint32_t kMiddleShift = kLowBits, kTopShift = kLowBits + kMiddleBits;
static_assert(kTopBits + kTopShift == 32 && (1u << kTopBits) <= RerankScratch::bins, "three digits make a key");

// An integer of the same order as `priority`; -0 and +0 are equal.
uint32_t ordered_key(float priority) {
  const float positive_zero = priority + 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &positive_zero, sizeof bits);
  return bits ^ (static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31) | 0x80000000u);
}

// The largest digit such that `wanted` keys or more have it or a larger one; takes those with a larger one off
// `wanted`.
uint32_t digit_of_last(const uint32_t* histogram, uint32_t digits, uint32_t& wanted) {
  uint32_t digit = digits - 1;
  while (histogram[digit] < wanted) wanted -= histogram[digit--];
  return digit;
}

// What is left of the candidates when the top digit of the top_k-th largest key is known: places [0, count) of those whose
// digit is not smaller, ascending, and how many are wanted of those where it is equal.
struct Shortlist {
  uint32_t count, digit, wanted;
};

Shortlist shorten(const uint32_t* keys, uint32_t count, uint32_t top_k, uint32_t* histogram, uint32_t* places) {
  constexpr uint32_t bins = RerankScratch::bins;
  Shortlist list{0, 0, top_k};
  std::memset(histogram, 0, 4 * bins * sizeof(uint32_t));
  for (uint32_t i = 0; i < count; i++) histogram[(i % 4) * bins + (keys[i] >> kTopShift)]++;
  for (uint32_t bin = 0; bin < bins; bin++) {
    histogram[bin] += histogram[bins + bin] + histogram[2 * bins + bin] + histogram[3 * bins + bin];
  }
  list.digit = digit_of_last(histogram, 1u << kTopBits, list.wanted);
  for (uint32_t i = 0; i < count; i++) {  // without a branch that nobody can foretell
    places[list.count] = i;
    list.count += keys[i] >> kTopShift >= list.digit;
  }
  return list;
}

// The smallest key among the top; `at_threshold` of those that equal it are among them.
uint32_t threshold_key(const uint32_t* keys, const uint32_t* places, const Shortlist& list, uint32_t* histogram,
                       uint32_t& at_threshold) {
  constexpr uint32_t bins = RerankScratch::bins;
  uint32_t wanted = list.wanted;
  std::memset(histogram, 0, bins * sizeof(uint32_t));
  for (uint32_t i = 0; i < list.count; i++) {
    const uint32_t key = keys[places[i]];
    if (key >> kTopShift == list.digit) histogram[key >> kMiddleShift & ((1u << kMiddleBits) - 1)]++;
  }
  const uint32_t middle = list.digit << kMiddleBits | digit_of_last(histogram, 1u << kMiddleBits, wanted);

  std::memset(histogram, 0, bins * sizeof(uint32_t));
  for (uint32_t i = 0; i < list.count; i++) {
    const uint32_t key = keys[places[i]];
    if (key >> kMiddleShift == middle) histogram[key & ((1u << kLowBits) - 1)]++;
  }
  const uint32_t low = digit_of_last(histogram, 1u << kLowBits, wanted);
  at_threshold = wanted;
  return middle << kLowBits | low;
}

}  // namespace

uint32_t choose_top(float* priorities, uint32_t count, uint32_t top_k, RerankScratch& scratch) {
  for (uint32_t i = 0; i < count; i++) {
    if (!std::isfinite(priorities[i])) priorities[i] = -std::numeric_limits<float>::infinity();
    scratch.keys[i] = ordered_key(priorities[i]);
  }
  if (count <= top_k) {
    for (uint32_t i = 0; i < count; i++) scratch.chosen[i] = i;
    return count;
  }
  if (top_k == 0) return 0;
  const Shortlist list = shorten(scratch.keys, count, top_k, scratch.histogram, scratch.places);
  uint32_t at_threshold;
  const uint32_t threshold = threshold_key(scratch.keys, scratch.places, list, scratch.histogram, at_threshold);
  uint32_t found = 0;
  for (uint32_t i = 0; found < top_k; i++) {
    const uint32_t place = scratch.places[i], key = scratch.keys[place];
    if (key < threshold) continue;
    if (key == threshold) {
      if (at_threshold == 0) continue;
      at_threshold--;
    }
    scratch.chosen[found++] = place;
  }
  return found;
}

}  // namespace pkv::cpu
