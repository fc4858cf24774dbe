// What one row attends to for one KV head, and where it lies.
#pragma once
#include "core/operators.h"
#include "cuda/hot_set.cuh"
#include "cuda/step_rows.cuh"

namespace pkv::cuda {

// Tokens begin .. end of a list.
struct TokenSpan {
  uint32_t begin, end;

  __device__ uint32_t tokens() const { return end - begin; }
  // Cut into tiles, of which the last may be smaller.
  __device__ TokenSpan tile(uint32_t number, uint32_t tile_tokens) const {
    const uint32_t first = begin + number * tile_tokens;
    return {first, min(first + tile_tokens, end)};
  }
  __device__ uint32_t tiles(uint32_t tile_tokens) const { return (tokens() + tile_tokens - 1) / tile_tokens; }
  // Share number `share` of `shares`: the first ones have one token more than the others.
  static __device__ TokenSpan share(uint32_t tokens, uint32_t share, uint32_t shares) {
    const uint32_t each = tokens / shares, more = tokens % shares;
    const uint32_t begin = share * each + min(share, more);
    return {begin, begin + each + (share < more ? 1 : 0)};
  }
};

// An entry of the list of selected keys. place: none without a hot set.
struct SelectedKey {
  uint32_t key;
  HotPlace place;
};

// Two lists of tokens: positions, which are the sink and the ring or, in mode dense, everything; and the selected keys. How
// many keys are selected, which ones, and their places are what the kernels in front may be at work on: they are read by
// load_selected_count(), selected_key() and line_to_fill() alone.
struct AttendedRow {
  const Cache& cache;
  uint32_t layer, head;
  int32_t slot;
  uint32_t zone_end;         // the position behind the retrieval zone
  uint32_t first_positions;  // the first ones of the list begin at 0, the others behind the zone
  uint32_t positions;
  uint32_t wanted;           // selected keys where there are as many candidates: as many as a search may give
  const int32_t* selected_count;
  uint32_t max_selected;
  const uint32_t* selected;  // [max_selected]
  const uint32_t* places;    // [max_selected], HotPlace; null without a hot set
  uint32_t zone_pages;
  bool keeps_pages;          // whether `page_records` is filled
  uint64_t* page_records;    // [zone_pages], shared memory: where the records of the zone's pages lie

  // zone_tokens: of the slot, also where the plan holds fewer. page_room: entries at `page_records`.
  __device__ AttendedRow(const Plan& plan, const Cache& cache, uint32_t layer, uint32_t row_head, uint32_t head,
                         const StepRow& row, int32_t zone_tokens, int64_t position, const uint32_t* all_places,
                         uint64_t* page_records, uint32_t page_room)
      : cache(cache), layer(layer), head(head), slot(row.slot), page_records(page_records) {
    const bool dense = row.mode == PKV_MODE_DENSE;
    const uint32_t zone = static_cast<uint32_t>(max(zone_tokens, 0));
    const int64_t seen = min(max(position + 1, int64_t{0}), int64_t{INT32_MAX});
    zone_end = cache.sink_tokens + zone;
    selected_count = plan.selected_count + row_head;
    max_selected = dense ? 0 : plan.max_top_k;
    wanted = min(min(row.top_k, max_selected), zone);
    zone_pages = (zone + PKV_PAGE_TOKENS - 1) / PKV_PAGE_TOKENS;
    keeps_pages = wanted > 0 && zone_pages <= page_room;
    selected = plan.selected + size_t{row_head} * plan.max_top_k;
    places = all_places == nullptr ? nullptr : all_places + size_t{row_head} * plan.max_top_k;
    if (dense) {
      positions = first_positions = static_cast<uint32_t>(seen);
    } else {
      first_positions = static_cast<uint32_t>(min(seen, int64_t{cache.sink_tokens}));
      positions = first_positions +
                  static_cast<uint32_t>(min(max(seen - zone_end, int64_t{0}), int64_t{cache.ring_tokens}));
    }
  }

  // The record of entry `index` of the positions.
  __device__ const uint8_t* position_record(uint32_t index) const {
    const uint32_t position = index < first_positions ? index : zone_end + (index - first_positions);
    if (position >= cache.sink_tokens && position < zone_end) {
      const uint32_t token = position - cache.sink_tokens;
      return record_of(cache.records_of(page_of(cache, slot, token), layer, head), token);
    }
    // As Cache::window_row, without a division of 64 bits.
    const uint32_t window_row =
        position < cache.sink_tokens ? position : cache.sink_tokens + (position - cache.sink_tokens) % cache.ring_tokens;
    return cache.window_of(static_cast<size_t>(slot), layer, head) + window_row * cache.record_bytes();
  }
  // How many keys are selected, once for it to be under way and once for it to be used.
  __device__ int32_t load_selected_count() const { return max_selected == 0 ? 0 : __ldcg(selected_count); }
  __device__ uint32_t count_selected(int32_t loaded) const { return min(static_cast<uint32_t>(max(loaded, 0)), max_selected); }
  // Selected key number `index`, below max_selected. From the number of selected keys on they mean nothing.
  __device__ SelectedKey selected_key(uint32_t index) const {
    return {__ldcg(selected + index), places == nullptr ? HotPlace::none() : HotPlace{__ldcg(places + index)}};
  }
  // The record of a selected key: in its line of the hot set, or where its page lies.
  __device__ const uint8_t* selected_record(SelectedKey selected) const {
    if (selected.place.is_hit()) return line(selected.place);
    const uint32_t key = selected.key;
    return record_of(keeps_pages ? reinterpret_cast<const uint8_t*>(page_records[key / PKV_PAGE_TOKENS])
                                 : cache.records_of(page_of(cache, slot, key), layer, head),
                     key);
  }
  // The line that this step fills with selected key number `index`, or null.
  __device__ uint8_t* line_to_fill(uint32_t index) const {
    const HotPlace place{__ldcg(places + index)};
    return place.is_fill() ? line(place) : nullptr;
  }

  // Fills page_records, by all threads of a block: asks for the pages, then looks them up. Their records may be asked for behind
  // the block's next barrier.
  template <uint32_t kThreads>
  struct PageLookup {
    static constexpr uint32_t each = 4, most_pages = each * kThreads;
    uint32_t ids[each];

    __device__ void begin(const AttendedRow& row) {
      const uint32_t* const table = row.cache.page_table + static_cast<size_t>(row.slot) * row.cache.max_pages;
#pragma unroll
      for (uint32_t u = 0; u < each; ++u) {
        const uint32_t page = threadIdx.x + u * kThreads;
        ids[u] = page < row.zone_pages ? load_once(table + page) : 0;
      }
    }
    __device__ void end(const AttendedRow& row) const {
      uint64_t records[each];
#pragma unroll
      for (uint32_t u = 0; u < each; ++u) {
        records[u] = reinterpret_cast<uint64_t>(row.cache.records_of(ids[u], row.layer, row.head));
      }
#pragma unroll
      for (uint32_t u = 0; u < each; ++u) {
        const uint32_t page = threadIdx.x + u * kThreads;
        if (page < row.zone_pages) row.page_records[page] = records[u];
      }
    }
  };

 private:
  // Of a zone token, given the records of its page.
  __device__ const uint8_t* record_of(const uint8_t* records, uint32_t token) const {
    return records + size_t{token % PKV_PAGE_TOKENS} * cache.record_bytes();
  }
  __device__ uint8_t* line(HotPlace place) const {
    return cache.hot_records_of(static_cast<size_t>(slot), layer, head) + place.line() * cache.record_bytes();
  }
};

}  // namespace pkv::cuda
