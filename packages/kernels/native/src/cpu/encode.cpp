// encode: key summaries of one page, all layers and KV heads (docs/mathematics.md §2). Exact: equal bytes to the reference.
#include "cpu/cpu.h"
#include "cpu/encode_kernels.h"
#include "cpu/rotate.h"

namespace pkv::cpu {
namespace {

const EncodeKernels& kernels_of(Isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa >= Isa::avx512) return encode_avx512;
  if (isa >= Isa::avx2) return encode_avx2;
#endif
  (void)isa;
  return encode_portable;
}

// Keys of one task: some 50 microseconds of work, and a page of few heads still occupies every thread.
constexpr uint32_t kTaskKeys = 128;
static_assert(PKV_PAGE_TOKENS % kTaskKeys == 0 && kTaskKeys % kEncodeKeys == 0, "no ragged tails");

}  // namespace

void encode(Runtime& runtime, const PageParams& params) {
  const Cache& cache = *params.cache;
  const EncodeKernels& kernels = kernels_of(runtime.isa);
  const auto encode_block = cache.head_dim == 64    ? kernels.encode_64
                            : cache.head_dim == 128 ? kernels.encode_128
                                                    : kernels.encode_256;
  const float scale = rotation_scale(cache.head_dim);
  const int64_t first_position = cache.sink_tokens + int64_t{params.page_index} * PKV_PAGE_TOKENS;
  constexpr size_t kTasksAHead = PKV_PAGE_TOKENS / kTaskKeys;

  parallel_for(runtime.pool, size_t{cache.layers} * cache.kv_heads * kTasksAHead, [&](size_t index, unsigned) {
    const size_t layer_head = index / kTasksAHead;
    const size_t layer = layer_head / cache.kv_heads, head = layer_head % cache.kv_heads;
    const uint8_t* const window = cache.window_of(params.slot, layer, head);
    uint8_t* const summary = cache.summary_of(params.page_id, layer, head);
    EncodeBlock block;
    block.dtype = static_cast<uint32_t>(cache.kv_dtype);
    block.centre = cache.calibration + layer_head * 2 * cache.head_dim;
    block.balance = block.centre + cache.head_dim;
    block.signs = cache.signs;
    block.centres = cache.centres;
    block.thresholds = cache.thresholds;
    block.scale = scale;
    const uint32_t first = static_cast<uint32_t>(index % kTasksAHead) * kTaskKeys;
    for (uint32_t token = first; token < first + kTaskKeys; token += kEncodeKeys) {
      for (uint32_t lane = 0; lane < kEncodeKeys; ++lane) {
        block.keys[lane] = window + cache.window_row(first_position + token + lane) * cache.record_bytes();
      }
      block.ids = summary + token;
      block.codes = cache.codes_of(summary) + size_t{token} * (cache.head_dim / 2);
      block.weights = cache.weights_of(summary) + size_t{token} * cache.subspaces();
      encode_block(block);
    }
  });
}

}  // namespace pkv::cpu
