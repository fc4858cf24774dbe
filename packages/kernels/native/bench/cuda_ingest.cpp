// How fast tokens enter the retrieval zone on a GPU: encode, offload (to mapped memory and to the device's own) and
// commit of whole pages of 32 layers x 8 KV heads x 128 in bf16. Each is a tape over several pages, whose window and
// pages are far larger than any cache. Then a matrix product alone, and with a page beside it, as prefill
// seals one. Prints a JSON of one line. Arguments: --runs N (20), --layers N (32), --cpu.
#include <cstdio>

#include "cuda_bench.h"

using namespace bench;

namespace {

constexpr uint32_t kKvHeads = 8, kHeadDim = 128, kPages = 8, kSinkTokens = 4, kRingTokens = 1024;
constexpr uint64_t kRecordBytes = 2 * kHeadDim * 2;

// A sequence that gives pages away from its ring, again and again the same ones.
class Ingest {
 public:
  Ingest(const Side& side, uint32_t layers, uint32_t record_kind)
      : side_(side),
        codec_(kHeadDim),
        heads_(uint64_t{layers} * kKvHeads),
        window_(side.allocate(window_bytes())),
        summaries_(side.allocate(kPages * page_keys() * PKV_SUMMARY_128_BYTES_PER_KEY)),
        records_(side.allocate(kPages * page_keys() * kRecordBytes, record_kind)),
        zone_tokens_(side.allocate(4)),
        page_table_(side.allocate(kPages * 4)),
        id_counts_(side.allocate(heads_ * (kHeadDim / PKV_SUBSPACE_DIM) * PKV_CENTROIDS * 4)),
        invalid_keys_(side.allocate(heads_ * 4)),
        budget_(side.allocate(uint64_t{layers} * PKV_BUDGET_FIELDS * 4)),
        calibration_(side.upload(codec_.identity(heads_))) {
    fill(side, window_, window_bytes(), bf16_of(normals(1 << 20, 1)));
    const uint64_t layer_bytes = kKvHeads * PKV_PAGE_TOKENS * kRecordBytes;  // of a page; records as in a slab of kPages
    std::vector<uint64_t> addresses;
    for (uint64_t page = 0; page < kPages; ++page) {
      addresses.push_back(Side::address(summaries_) + page * page_keys() * PKV_SUMMARY_128_BYTES_PER_KEY);
      addresses.push_back(Side::address(records_) + page * layer_bytes);
      addresses.push_back(kPages * layer_bytes);
    }
    page_address_ = side.upload(addresses);
    pkv_cache_params params = {};
    params.layers = layers;
    params.kv_heads = kKvHeads;
    params.query_group = 4;
    params.head_dim = kHeadDim;
    params.kv_dtype = PKV_DTYPE_BF16;
    params.slots = 1;
    params.sink_tokens = kSinkTokens;
    params.ring_tokens = kRingTokens;
    params.max_pages = params.page_capacity = kPages;
    params.zone_tokens.buffer = zone_tokens_.get();
    params.page_table.buffer = page_table_.get();
    params.page_address.buffer = page_address_.get();
    params.window.buffer = window_.get();
    params.id_counts.buffer = id_counts_.get();
    params.invalid_keys.buffer = invalid_keys_.get();
    params.budget.buffer = budget_.get();
    params.calibration.buffer = calibration_.get();
    codec_.put(params);
    pkv_cache* cache = nullptr;
    must(pkv_cache_create(side.context(), &params, &cache));
    cache_.reset(cache);
  }

  uint64_t page_keys() const { return heads_ * PKV_PAGE_TOKENS; }
  // Seconds of a page.
  Spread time(int runs, pkv_status (*verb)(pkv_context*, const pkv_page_params*)) const {
    const Owned<pkv_tape> tape = side_.record([&] {
      for (uint32_t page = 0; page < kPages; ++page) {
        const pkv_page_params params = {cache_.get(), 0, page, page};
        must(verb(side_.context(), &params));
      }
    });
    const Spread spread = time_tape(side_, tape, runs, [] {});
    return {spread.median / kPages, spread.low / kPages, spread.high / kPages};
  }
  // Seconds of encode and offload of a page, a run of `work`, and the page's commit.
  Spread time_beside(int runs, const Owned<pkv_tape>& work) const {
    pkv_context* const context = side_.context();
    std::vector<double> seconds;
    for (int run = -2; run < runs; ++run) {
      const uint32_t at = static_cast<uint32_t>(run + 2) % kPages;
      const pkv_page_params page = {cache_.get(), 0, at, at};
      const auto start = std::chrono::steady_clock::now();
      must(pkv_encode(context, &page));
      must(pkv_offload(context, &page));
      must(pkv_tape_run(work.get()));
      must(pkv_commit(context, &page));
      must(pkv_context_synchronize(context));
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      if (run >= 0) seconds.push_back(elapsed.count());
    }
    return spread_of(std::move(seconds));
  }

 private:
  uint64_t window_bytes() const { return heads_ * (kSinkTokens + kRingTokens) * kRecordBytes; }

  const Side& side_;
  Codec codec_;
  uint64_t heads_;
  Buffer window_, summaries_, records_, zone_tokens_, page_table_, id_counts_, invalid_keys_, budget_, calibration_,
      page_address_;
  Owned<pkv_cache> cache_;
};

void print(const char* name, const Ingest& ingest, Spread seconds, double bytes_a_key) {
  const double keys = static_cast<double>(ingest.page_keys());
  std::printf(", \"%s\": {\"medianUs\": %.1f, \"lowUs\": %.1f, \"highUs\": %.1f, \"gigakeysPerSecond\": %.3f, "
              "\"gigabytesPerSecond\": %.1f}",
              name, seconds.median * 1e6, seconds.low * 1e6, seconds.high * 1e6, keys / seconds.median * 1e-9,
              keys * bytes_a_key / seconds.median * 1e-9);
}

// A matrix product of a chunk of a prompt: 512 rows, 4096 by 4096 weights.
class Work {
  static constexpr uint64_t kRows = 512;
  Buffer weight_, x_, out_;

 public:
  const Owned<pkv_tape> tape;

  Work(const Side& side, uint32_t width)
      : weight_(side.allocate(uint64_t{width} * width * 2)),
        x_(side.allocate(kRows * width * 4)),
        out_(side.allocate(kRows * width * 4)),
        tape(side.record([&] {
          pkv_linear_params params = {};
          params.x = {x_.get(), 0, width};
          params.out = {out_.get(), 0, width};
          params.weight = {weight_.get(), 0};
          params.dtype = PKV_DTYPE_BF16;
          params.in_width = params.out_width = width;
          params.row_count = kRows;
          must(pkv_linear(side.context(), &params));
        })) {}
};

}  // namespace

int main(int argc, char** argv) try {
  const Side side(device_of(argc, argv));
  const int runs = static_cast<int>(flag(argc, argv, "--runs", 20));
  const auto layers = static_cast<uint32_t>(flag(argc, argv, "--layers", 32));
  const Ingest to_device(side, layers, PKV_MEMORY_DEVICE), to_mapped(side, layers, PKV_MEMORY_MAPPED);
  std::printf("{\"detail\": \"%s\", \"runs\": %d, \"layers\": %u, \"pageKeys\": %llu", side.detail(), runs, layers,
              static_cast<unsigned long long>(to_device.page_keys()));
  print("encode", to_device, to_device.time(runs, pkv_encode), kHeadDim * 2 + PKV_SUMMARY_128_BYTES_PER_KEY);
  print("commit", to_device, to_device.time(runs, pkv_commit), PKV_SUMMARY_128_SUBSPACES);
  print("offloadToDevice", to_device, to_device.time(runs, pkv_offload), 2 * kRecordBytes);
  print("offloadToMapped", to_mapped, to_mapped.time(runs, pkv_offload), kRecordBytes);
  const Work work(side, layers < 8 ? 256 : 4096);
  const Spread alone = time_tape(side, work.tape, runs, [] {});
  const Spread beside = to_mapped.time_beside(runs, work.tape);
  std::printf(", \"beside\": {\"workUs\": %.1f, \"workAndPageUs\": %.1f, \"lowUs\": %.1f, \"highUs\": %.1f}",
              alone.median * 1e6, beside.median * 1e6, beside.low * 1e6, beside.high * 1e6);
  std::printf("}\n");
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "cuda_ingest: %s\n", error.what());
  return 1;
}
