#include "cpu/collide_kernels.h"

namespace pkv::cpu {

void score_page_portable(const CollidePage& page) {
  for (uint32_t t = 0; t < page.table_count; t++) {
    uint16_t sums[PKV_PAGE_TOKENS] = {};
    for (uint32_t b = 0; b < page.subspaces; b++) {
      const uint8_t* table = page.tables + (size_t{t} * page.subspaces + b) * PKV_CENTROIDS;
      const uint8_t* ids = page.ids + size_t{b} * PKV_PAGE_TOKENS;
      for (uint32_t i = 0; i < page.tokens; i++) sums[i] = static_cast<uint16_t>(sums[i] + table[ids[i]]);
    }
    for (uint32_t i = 0; i < page.tokens; i++) {
      if (t == 0 || sums[i] > page.scores[i]) page.scores[i] = sums[i];
    }
  }
}

}  // namespace pkv::cpu
