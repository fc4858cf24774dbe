// How fast tokens enter the retrieval zone on the GPU: encode, offload (to mapped memory and to the device's own) and
// commit of whole pages, 32 layers x 8 KV heads x 128 in bf16. Each operator is a tape over several pages, so that
// windows and pages are far larger than any cache; the median of the runs is printed, as JSON. Argument: runs of each
// tape (default 20).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "pkv.h"

namespace {

constexpr uint32_t kLayers = 32, kKvHeads = 8, kHeadDim = 128, kPages = 16, kSinkTokens = 4, kRingTokens = 1024;
constexpr uint64_t kRecordBytes = 2 * kHeadDim * 2;
constexpr uint64_t kHeads = uint64_t{kLayers} * kKvHeads;
constexpr uint64_t kPageKeys = kHeads * PKV_PAGE_TOKENS;

void must(pkv_status status) {
  if (status == PKV_OK) return;
  pkv_error error;
  pkv_last_error(&error);
  std::fprintf(stderr, "%s\n", error.message);
  std::exit(1);
}

pkv_buffer* allocate(pkv_context* context, uint64_t bytes, uint32_t kind = PKV_MEMORY_DEVICE) {
  pkv_buffer* buffer = nullptr;
  must(pkv_buffer_create(context, bytes, kind, &buffer));
  return buffer;
}

template <class T>
pkv_buffer* upload(pkv_context* context, const std::vector<T>& values) {
  pkv_buffer* buffer = allocate(context, values.size() * sizeof(T));
  must(pkv_buffer_write(buffer, 0, values.data(), values.size() * sizeof(T)));
  return buffer;
}

uint64_t address(pkv_buffer* buffer) {
  uint64_t address = 0;
  must(pkv_buffer_address(buffer, &address));
  return address;
}

// bf16 between 1 and 2 with random signs: keys of ordinary size.
pkv_buffer* random_window(pkv_context* context) {
  std::mt19937_64 random(1);
  std::vector<uint16_t> window(kHeads * (kSinkTokens + kRingTokens) * kRecordBytes / 2);
  for (uint16_t& element : window) {
    const uint64_t bits = random();
    element = static_cast<uint16_t>((bits & 0x807f) | 0x3f80);
  }
  return upload(context, window);
}

pkv_cache* make_cache(pkv_context* context, pkv_buffer* window, pkv_buffer* summaries, pkv_buffer* records) {
  std::vector<uint64_t> addresses;
  for (uint64_t page = 0; page < kPages; ++page) {
    addresses.push_back(address(summaries) + page * kPageKeys * PKV_SUMMARY_128_BYTES_PER_KEY);
    addresses.push_back(address(records) + page * kPageKeys * kRecordBytes);
  }
  std::vector<float> calibration(kHeads * 2 * kHeadDim, 0.0f);
  for (size_t i = 0; i < calibration.size(); ++i) calibration[i] = i / kHeadDim % 2 == 1 ? 1.0f : 0.0f;
  std::vector<float> signs(kHeadDim, 1.0f);
  for (uint32_t j = 0; j < kHeadDim; j += 3) signs[j] = -1.0f;
  const float centres[] = {0.0425f, 0.1280f, 0.2152f, 0.3053f, 0.4003f, 0.5030f, 0.6193f, 0.7648f};
  const float thresholds[] = {0.0853f, 0.1716f, 0.2603f, 0.3528f, 0.4516f, 0.5612f, 0.6921f};
  pkv_cache_params params = {};
  params.layers = kLayers;
  params.kv_heads = kKvHeads;
  params.query_group = 4;
  params.head_dim = kHeadDim;
  params.kv_dtype = PKV_DTYPE_BF16;
  params.slots = 1;
  params.sink_tokens = kSinkTokens;
  params.ring_tokens = kRingTokens;
  params.max_pages = params.page_capacity = kPages;
  params.zone_tokens.buffer = allocate(context, 4);
  params.page_table.buffer = allocate(context, kPages * 4);
  params.page_address.buffer = upload(context, addresses);
  params.window.buffer = window;
  params.id_counts.buffer = allocate(context, kHeads * (kHeadDim / PKV_SUBSPACE_DIM) * PKV_CENTROIDS * 4);
  params.invalid_keys.buffer = allocate(context, kHeads * 4);
  params.budget.buffer = allocate(context, kLayers * PKV_BUDGET_FIELDS * 4);
  params.calibration.buffer = upload(context, calibration);
  params.signs = signs.data();
  params.centres = centres;
  params.thresholds = thresholds;
  pkv_cache* cache = nullptr;
  must(pkv_cache_create(context, &params, &cache));
  return cache;
}

// Median seconds of a page.
double time_page(pkv_context* context, pkv_cache* cache, int runs,
                 pkv_status (*verb)(pkv_context*, const pkv_page_params*)) {
  must(pkv_record_begin(context));
  for (uint32_t page = 0; page < kPages; ++page) {
    const pkv_page_params params = {cache, 0, page, page};
    must(verb(context, &params));
  }
  pkv_tape* tape = nullptr;
  must(pkv_record_end(context, &tape));
  must(pkv_tape_run(tape));
  std::vector<double> seconds;
  for (int run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    must(pkv_tape_run(tape));
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kPages);
  }
  pkv_tape_destroy(tape);
  std::nth_element(seconds.begin(), seconds.begin() + runs / 2, seconds.end());
  return seconds[static_cast<size_t>(runs) / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::max(1, std::atoi(argv[1])) : 20;
  const pkv_context_options options = {PKV_CUDA, 0, nullptr};
  pkv_context* context = nullptr;
  must(pkv_context_create(&options, &context));
  const char* detail = nullptr;
  must(pkv_context_detail(context, &detail));
  pkv_buffer* window = random_window(context);
  pkv_buffer* summaries = allocate(context, kPages * kPageKeys * PKV_SUMMARY_128_BYTES_PER_KEY);
  pkv_buffer* mapped = allocate(context, kPages * kPageKeys * kRecordBytes, PKV_MEMORY_MAPPED);
  pkv_buffer* own = allocate(context, kPages * kPageKeys * kRecordBytes);
  pkv_cache* to_mapped = make_cache(context, window, summaries, mapped);
  pkv_cache* to_own = make_cache(context, window, summaries, own);

  const double encode = time_page(context, to_own, runs, pkv_encode);
  const double commit = time_page(context, to_own, runs, pkv_commit);
  const double offload_own = time_page(context, to_own, runs, pkv_offload);
  const double offload_mapped = time_page(context, to_mapped, runs, pkv_offload);
  const double record_bytes = static_cast<double>(kPageKeys * kRecordBytes);
  std::printf("{\"device\": \"%s\", \"page\": \"32 layers x 8 heads x 512 tokens, d 128, bf16\", \"runs\": %d,\n",
              detail, runs);
  std::printf(" \"encode\": {\"us_a_page\": %.1f, \"giga_keys_a_second\": %.3f},\n", encode * 1e6,
              kPageKeys / encode * 1e-9);
  std::printf(" \"commit\": {\"us_a_page\": %.1f},\n", commit * 1e6);
  std::printf(" \"offload_to_device\": {\"us_a_page\": %.1f, \"gb_a_second\": %.1f},\n", offload_own * 1e6,
              record_bytes / offload_own * 1e-9);
  std::printf(" \"offload_to_mapped\": {\"us_a_page\": %.1f, \"gb_a_second\": %.1f}}\n", offload_mapped * 1e6,
              record_bytes / offload_mapped * 1e-9);
  pkv_context_destroy(context);
  return 0;
}
