// A 256-entry byte table is sixteen 16-entry shuffles by the low nibble of the id, narrowed to one by four rounds of
// choices: each of the id's bits 4 to 7, moved to the top of its byte, steers one round.
#include <immintrin.h>

#include "cpu/collide_kernels.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kKeys = 32;
constexpr uint32_t kStep = 4;  // subspaces that a byte holds: 4 * PKV_MAX_VOTE = 252
static_assert(kStep * PKV_MAX_VOTE <= 255, "four votes fit a byte");

inline __m256i shuffle(const uint8_t* entries, __m256i nibble) {
  const __m256i slice = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)));
  return _mm256_shuffle_epi8(slice, nibble);
}

// The entries of one quarter of the table (64 entries) at the low six bits of the ids.
inline __m256i look_up_quarter(const uint8_t* entries, __m256i nibble, __m256i bit4, __m256i bit5) {
  const __m256i low = _mm256_blendv_epi8(shuffle(entries, nibble), shuffle(entries + 16, nibble), bit4);
  const __m256i high = _mm256_blendv_epi8(shuffle(entries + 32, nibble), shuffle(entries + 48, nibble), bit4);
  return _mm256_blendv_epi8(low, high, bit5);
}

inline __m256i look_up(const uint8_t* table, __m256i id) {
  const __m256i nibble = _mm256_and_si256(id, _mm256_set1_epi8(15));
  const __m256i bit6 = _mm256_add_epi8(id, id);
  const __m256i bit5 = _mm256_add_epi8(bit6, bit6);
  const __m256i bit4 = _mm256_add_epi8(bit5, bit5);
  const __m256i low = _mm256_blendv_epi8(look_up_quarter(table, nibble, bit4, bit5),
                                         look_up_quarter(table + 64, nibble, bit4, bit5), bit6);
  const __m256i high = _mm256_blendv_epi8(look_up_quarter(table + 128, nibble, bit4, bit5),
                                          look_up_quarter(table + 192, nibble, bit4, bit5), bit6);
  return _mm256_blendv_epi8(low, high, id);
}

inline __m256i widen(__m128i bytes) {
  return _mm256_cvtepu8_epi16(bytes);
}

}  // namespace

void score_page_avx2(const CollidePage& page) {
  for (uint32_t i = 0; i < page.tokens; i += kKeys) {
    __m256i best0 = _mm256_setzero_si256(), best1 = best0;
    for (uint32_t t = 0; t < page.table_count; t++) {
      __m256i sum0 = _mm256_setzero_si256(), sum1 = sum0;
      for (uint32_t first = 0; first < page.subspaces; first += kStep) {
        __m256i votes = _mm256_setzero_si256();
        for (uint32_t b = first; b < first + kStep; b++) {
          const uint8_t* table = page.tables + (size_t{t} * page.subspaces + b) * PKV_CENTROIDS;
          const size_t at = size_t{b} * PKV_PAGE_TOKENS + i;
          _mm_prefetch(reinterpret_cast<const char*>(page.next_ids + at), _MM_HINT_T0);
          const __m256i id = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(page.ids + at));
          votes = _mm256_add_epi8(votes, look_up(table, id));
        }
        sum0 = _mm256_add_epi16(sum0, widen(_mm256_castsi256_si128(votes)));
        sum1 = _mm256_add_epi16(sum1, widen(_mm256_extracti128_si256(votes, 1)));
      }
      best0 = _mm256_max_epu16(best0, sum0);
      best1 = _mm256_max_epu16(best1, sum1);
    }
    alignas(32) uint16_t tail[kKeys];
    const bool whole = page.tokens - i >= kKeys;
    uint16_t* target = whole ? page.scores + i : tail;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), best0);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + 16), best1);
    if (!whole) {
      for (uint32_t j = i; j < page.tokens; j++) page.scores[j] = tail[j - i];
    }
  }
}

}  // namespace pkv::cpu
