// bf16 attention on the matrix unit (AMX), which leaves the processor nearly nothing to do but to read. A tile is sixteen
// tokens. K and V enter the unit from where they lie:
//   logits [token, column] = K · Q: q is split into three bf16 whose sum is exactly q, twelve columns for four heads.
//   output [row, column] = W · V: the unit multiplies pairs, and the sixteen pairs of a row of V are its even and odd
//   elements, so a row of W has a weight in the low half of each pair for the even elements, in the high half for the odd
//   ones, and zero in the other. A weight is 16 significant bits, exactly two bf16: sixteen rows for four heads.
// Both sum in f32. The output stays in the unit until a logit exceeds the maximum by too much.
#include <immintrin.h>

#include "cpu/attend_tiles.h"
#include "cpu/exp_avx512.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kLanes = 16;
constexpr uint32_t kUnit = 32;     // elements of K, of V and of q that one tile covers
constexpr uint32_t kMaxUnits = 4;  // of a row: as many outputs as the unit holds beside what it needs for a product
constexpr uint32_t kHeads = 4;
constexpr float kLowest = -3.40282347e38f;  // the least finite float
constexpr int kInfiniteOrNan = 0x99;
constexpr float kSlack = 8;  // by which a logit may exceed the maximum before it is raised; a weight is then at most 2981

// The eight tiles, which the intrinsics want as literals: 0 to 3 the output, one a unit; 4 logits; 5 queries or weights;
// 6 and 7 rows of K or V.
struct alignas(kLineBytes) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileShapes kTileShapes;

// GCC's intrinsics do not tell the compiler that a tile is loaded from memory; this makes what was stored be there.
inline void publish() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

// The upper sixteen bits of every lane: the bf16 next to it towards zero, in the high half.
inline __m512i upper_half(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
}
// The same in the low half.
inline __m512i upper_half_below(__m512 x) { return _mm512_srli_epi32(_mm512_castps_si512(x), 16); }
// A positive number to 16 significant bits: relative error at most 2^-17.
inline __m512 round_to_two_parts(__m512 x) {
  const __m512i half_more = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x80));
  return _mm512_castsi512_ps(_mm512_and_si512(half_more, _mm512_set1_epi32(static_cast<int>(0xffffff00u))));
}
inline __m512 lower_part(__m512 x) { return _mm512_sub_ps(x, _mm512_castsi512_ps(upper_half(x))); }

// Each quarter of the four registers as a matrix of 4 x 4, transposed.
inline void transpose_quarters(const __m512 (&x)[4], __m512 (&y)[4]) {
  const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(x[0], x[1]));
  const __m512d b = _mm512_castps_pd(_mm512_unpacklo_ps(x[2], x[3]));
  const __m512d c = _mm512_castps_pd(_mm512_unpackhi_ps(x[0], x[1]));
  const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(x[2], x[3]));
  y[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
  y[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
  y[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
  y[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
}

template <uint32_t Units>
class Attention {
 public:
  explicit Attention(const AttendCall& call) : call_(call), tiles_(call) {}

  void run() {
    start();
    // The logits of a tile, then the values of the one before it, whose weights are ready by then. Meanwhile the next tile
    // is read, a little at every step, so that the memory always has something to do.
    uint32_t current = 0;
    take(tiles_.take(), current);
    weigh(current);
    for (Tile tile = tiles_.take(); tile.tokens > 0; tile = tiles_.take()) {
      take(tile, current ^ 1);
      add_values(current);
      current ^= 1;
      weigh(current);
    }
    add_values(current);
    finish();
  }

 private:
  static constexpr uint32_t kHeadDim = Units * kUnit;
  static constexpr uint32_t kValueBytes = 2 * kHeadDim, kRecordBytes = 2 * kValueBytes;
  // Half of a tile is read between the products for logits and values, the other half while weights are made.
  static constexpr uint32_t kLinesAProduct = Tiles<kRecordBytes>::kTileLines / (4 * Units);
  static constexpr uint32_t kLinesOfHalfAWeighing = Tiles<kRecordBytes>::kTileLines / 4;

  // A tile of records on its way.
  struct Stage {
    const uint8_t* records;  // [kTileTokens, 2, head_dim] bf16
    uint32_t tokens;
    bool whole;  // sixteen tokens, none of them left out
    alignas(kLineBytes) uint8_t copy[kTileTokens * kRecordBytes];
  };

  void start() {
    alignas(kLineBytes) float maximum[kLanes] = {}, sum[kLanes] = {};
    for (uint32_t h = 0; h < call_.heads; h++) {
      for (uint32_t lane = h; lane < kLanes; lane += kHeads) maximum[lane] = call_.maximum[h];
      sum[h] = call_.sum[h];
    }
    maximum_ = _mm512_load_ps(maximum);
    sum_ = _mm512_load_ps(sum);
    split_queries();
    clear_output();
  }

  // queries_ [unit][pair of elements][part, head] bf16 pairs; columns without a head are zero.
  void split_queries() {
    for (uint32_t unit = 0; unit < Units; unit++) {
      __m512 pairs[3][kHeads];  // [part][head], lanes are pairs
#pragma GCC unroll 4
      for (uint32_t h = 0; h < kHeads; h++) {
        __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
        if (h < call_.heads) {
          const float* q = call_.q + h * kHeadDim + unit * kUnit;
          even = _mm512_loadu_ps(q);
          odd = _mm512_loadu_ps(q + kLanes);
        }
#pragma GCC unroll 3
        for (uint32_t part = 0; part < 3; part++) {
          pairs[part][h] = _mm512_castsi512_ps(_mm512_or_si512(upper_half_below(even), upper_half(odd)));
          even = lower_part(even);
          odd = lower_part(odd);
        }
      }
      // Lanes [four pairs][head], pairs j, j + 4, j + 8 and j + 12; then a quarter of each part makes a row.
      __m512 heads[3][4];
#pragma GCC unroll 3
      for (uint32_t part = 0; part < 3; part++) transpose_quarters(pairs[part], heads[part]);
#pragma GCC unroll 4
      for (uint32_t j = 0; j < 4; j++) {
        uint8_t* rows = queries_[unit] + j * kLineBytes;
        const __m512 ab = _mm512_shuffle_f32x4(heads[0][j], heads[1][j], 0x44);
        const __m512 cd = _mm512_shuffle_f32x4(heads[0][j], heads[1][j], 0xee);
        const __m512 ab_last = _mm512_shuffle_f32x4(heads[2][j], _mm512_setzero_ps(), 0x44);
        const __m512 cd_last = _mm512_shuffle_f32x4(heads[2][j], _mm512_setzero_ps(), 0xee);
        _mm512_store_ps(rows, _mm512_shuffle_f32x4(ab, ab_last, 0x88));
        _mm512_store_ps(rows + 4 * kLineBytes, _mm512_shuffle_f32x4(ab, ab_last, 0xdd));
        _mm512_store_ps(rows + 8 * kLineBytes, _mm512_shuffle_f32x4(cd, cd_last, 0x88));
        _mm512_store_ps(rows + 12 * kLineBytes, _mm512_shuffle_f32x4(cd, cd_last, 0xdd));
      }
    }
  }

  // The unit finds a tile where it lies, or, when it is not full, in a copy that ends with zeros.
  void take(const Tile& tile, uint32_t slot) {
    Stage& stage = stages_[slot];
    stage.records = tile.records;
    stage.tokens = tile.tokens;
    if (__builtin_expect(tile.tokens < kTileTokens, 0)) {
      const uint32_t bytes = tile.tokens * kRecordBytes;
      for (uint32_t at = 0; at < kTileTokens * kRecordBytes; at += kLineBytes) {
        _mm512_store_si512(stage.copy + at,
                           at < bytes ? _mm512_loadu_si512(tile.records + at) : _mm512_setzero_si512());
      }
      stage.records = stage.copy;
    }
    compute_logits(stage.records);
  }

  // logits_ of sixteen records.
  void compute_logits(const uint8_t* keys) {
    publish();
    _tile_zero(4);
    _tile_loadd(6, keys, kRecordBytes);
    _tile_loadd(5, queries_[0], kLineBytes);
    _tile_dpbf16ps(4, 6, 5);
    tiles_.read(kLinesAProduct);
    _tile_loadd(7, keys + kLineBytes, kRecordBytes);
    _tile_loadd(5, queries_[1], kLineBytes);
    _tile_dpbf16ps(4, 7, 5);
    tiles_.read(kLinesAProduct);
    if constexpr (Units == 4) {
      _tile_loadd(6, keys + 2 * kLineBytes, kRecordBytes);
      _tile_loadd(5, queries_[2], kLineBytes);
      _tile_dpbf16ps(4, 6, 5);
      tiles_.read(kLinesAProduct);
      _tile_loadd(7, keys + 3 * kLineBytes, kRecordBytes);
      _tile_loadd(5, queries_[3], kLineBytes);
      _tile_dpbf16ps(4, 7, 5);
      tiles_.read(kLinesAProduct);
    }
    _tile_stored(4, logits_, kLineBytes);
  }

  void add_values(uint32_t slot) {
    const Stage& stage = stages_[slot];
    if (__builtin_expect(!stage.whole, 0)) return add_kept_values(stage);
    const uint8_t* values = stage.records + kValueBytes;
    publish();
    _tile_loadd(5, weight_rows_, kLineBytes);
    _tile_loadd(6, values, kRecordBytes);
    _tile_dpbf16ps(0, 5, 6);
    tiles_.read(kLinesAProduct);
    _tile_loadd(7, values + kLineBytes, kRecordBytes);
    _tile_dpbf16ps(1, 5, 7);
    tiles_.read(kLinesAProduct);
    if constexpr (Units == 4) {
      _tile_loadd(6, values + 2 * kLineBytes, kRecordBytes);
      _tile_dpbf16ps(2, 5, 6);
      tiles_.read(kLinesAProduct);
      _tile_loadd(7, values + 3 * kLineBytes, kRecordBytes);
      _tile_dpbf16ps(3, 5, 7);
      tiles_.read(kLinesAProduct);
    }
  }

  // The same for a tile with absent or left-out tokens: weights of 0 are skipped, because 0 * V is not 0 where V is not
  // finite.
  __attribute__((noinline)) void add_kept_values(const Stage& stage) {
    for (uint32_t h = 0; h < call_.heads; h++) {
      for (uint32_t t = 0; t < kTileTokens; t++) {
        if (weights_[h][t] == 0) continue;
        const __m512 weight = _mm512_set1_ps(weights_[h][t]);
        for (uint32_t element = 0; element < kHeadDim; element += kUnit) {
          const __m512i pairs = _mm512_loadu_si512(stage.records + t * kRecordBytes + kValueBytes + 2 * element);
          float* output = call_.output + h * kHeadDim + element;
          const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
          const __m512 odd = _mm512_castsi512_ps(upper_half(_mm512_castsi512_ps(pairs)));
          _mm512_storeu_ps(output, _mm512_fmadd_ps(weight, even, _mm512_loadu_ps(output)));
          _mm512_storeu_ps(output + kLanes, _mm512_fmadd_ps(weight, odd, _mm512_loadu_ps(output + kLanes)));
        }
      }
    }
  }

  // The logits become weights. Lanes are [four tokens][head] until the weights are laid out for the unit.
  void weigh(uint32_t slot) {
    Stage& stage = stages_[slot];
    __m512 x[4];
    __mmask16 strange = 0;
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; j++) {  // tokens j, j + 4, j + 8 and j + 12
      const __m512 ab = add_parts(_mm512_load_ps(logits_[j]), _mm512_load_ps(logits_[j + 4]));
      const __m512 cd = add_parts(_mm512_load_ps(logits_[j + 8]), _mm512_load_ps(logits_[j + 12]));
      x[j] = add_parts(ab, cd);
      strange |= _mm512_fpclass_ps_mask(x[j], kInfiniteOrNan);
    }
    stage.whole = strange == 0 && stage.tokens == kTileTokens;
    if (__builtin_expect(!stage.whole, 0)) leave_out(x, stage.tokens);
    __m512 largest = _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3]));
    largest = _mm512_max_ps(largest, _mm512_shuffle_f32x4(largest, largest, 0xb1));
    largest = _mm512_max_ps(largest, _mm512_shuffle_f32x4(largest, largest, 0x4e));
    const __m512 limit = _mm512_add_ps(maximum_, _mm512_set1_ps(kSlack));
    if (__builtin_expect(_mm512_cmp_ps_mask(largest, limit, _CMP_GT_OQ) != 0, 0)) raise_maximum(largest);
    tiles_.read(kLinesOfHalfAWeighing);
    // With nothing kept so far the maximum is -infinity; 0 in its place makes every weight exp(-infinity) = 0.
    const __m512 reference =
        _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(maximum_, _mm512_set1_ps(kLowest), _CMP_GE_OQ), maximum_);
#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; j++) x[j] = round_to_two_parts(exp_avx512(_mm512_sub_ps(x[j], reference)));
    sum_ = _mm512_add_ps(sum_, _mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3])));
    lay_out_weights(x);
    tiles_.read(kLinesOfHalfAWeighing);
  }

  // Logits of absent tokens, and those that are not finite, become -infinity.
  __attribute__((noinline)) static void leave_out(__m512 (&x)[4], uint32_t tokens) {
    const __m512 nothing = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(0xff800000u)));
    for (uint32_t j = 0; j < 4; j++) {
      const uint32_t present_lanes = (tokens + 3 - j) / 4 * kHeads;
      const uint32_t kept = ((1u << present_lanes) - 1) & ~uint32_t{_mm512_fpclass_ps_mask(x[j], kInfiniteOrNan)};
      x[j] = _mm512_mask_blend_ps(static_cast<__mmask16>(kept), nothing, x[j]);
    }
  }

  // Lanes [part][head] of two tokens: the sums of two parts each, [token][two of them][head]; and of two such again:
  // [token][head], all parts added.
  static __m512 add_parts(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  }

  // weight_rows_ [parity][part][head][token] bf16 pairs, from x [4] with lanes [four tokens][head].
  void lay_out_weights(const __m512 (&x)[4]) {
    __m512 weights[kHeads];  // [head], lanes are tokens
    transpose_quarters(x, weights);
#pragma GCC unroll 4
    for (uint32_t h = 0; h < kHeads; h++) {
      _mm512_store_ps(weights_[h], weights[h]);
      const __m512i first = upper_half(weights[h]);
      const __m512 rest = _mm512_sub_ps(weights[h], _mm512_castsi512_ps(first));
      _mm512_store_si512(weight_rows_ + h * kLineBytes, upper_half_below(weights[h]));
      _mm512_store_si512(weight_rows_ + (kHeads + h) * kLineBytes, upper_half_below(rest));
      _mm512_store_si512(weight_rows_ + (2 * kHeads + h) * kLineBytes, first);
      // Of a rest below the least normal number more than the upper half is set; it must not reach the even elements.
      _mm512_store_si512(weight_rows_ + (3 * kHeads + h) * kLineBytes, upper_half(rest));
    }
  }

  __attribute__((noinline)) void raise_maximum(__m512 largest) {
    const __m512 raised = _mm512_max_ps(largest, maximum_);
    if (_mm512_cmp_ps_mask(maximum_, _mm512_set1_ps(kLowest), _CMP_GE_OQ) == 0) {  // nothing is there to be rescaled
      maximum_ = raised;
      return;
    }
    const __m512 rescale = exp_avx512(_mm512_sub_ps(maximum_, raised));  // 0 where both are -infinity: nothing is there
    maximum_ = raised;
    sum_ = _mm512_mul_ps(sum_, rescale);
    take_output(rescale);
    clear_output();
  }

  // output = (output + what the unit holds) * rescale.
  void take_output(__m512 rescale) {
    alignas(kLineBytes) float factors[kLanes];
    alignas(kLineBytes) float products[Units][kLanes][kLanes];  // [unit][parity, part, head][pair of elements]
    _mm512_store_ps(factors, rescale);
    _tile_stored(0, products[0], kLineBytes);
    _tile_stored(1, products[1], kLineBytes);
    if constexpr (Units == 4) {
      _tile_stored(2, products[2], kLineBytes);
      _tile_stored(3, products[3], kLineBytes);
    }
    for (uint32_t unit = 0; unit < Units; unit++) {
      for (uint32_t h = 0; h < call_.heads; h++) {
        for (uint32_t parity = 0; parity < 2; parity++) {
          float* output = call_.output + h * kHeadDim + unit * kUnit + parity * kLanes;
          const float* product = products[unit][parity * 2 * kHeads + h];
          const __m512 parts =
              _mm512_add_ps(_mm512_load_ps(product), _mm512_load_ps(product + kHeads * kLanes));
          const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(output), parts);
          _mm512_storeu_ps(output, _mm512_mul_ps(sum, _mm512_set1_ps(factors[h])));
        }
      }
    }
  }

  void clear_output() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }

  void finish() {
    take_output(_mm512_set1_ps(1.0f));
    alignas(kLineBytes) float maximum[kLanes], sum[kLanes];
    _mm512_store_ps(maximum, maximum_);
    _mm512_store_ps(sum, sum_);
    for (uint32_t h = 0; h < call_.heads; h++) {
      call_.maximum[h] = maximum[h];
      call_.sum[h] = (sum[h] + sum[kHeads + h]) + (sum[2 * kHeads + h] + sum[3 * kHeads + h]);
    }
  }

  const AttendCall& call_;
  Tiles<kRecordBytes> tiles_;
  Stage stages_[2];       // the tile whose logits and the tile whose values are computed
  __m512 maximum_, sum_;  // lanes [.][head]; the maximum (as in AttendCall) is in every lane of its head
  alignas(kLineBytes) uint8_t queries_[Units][kLanes * kLineBytes];
  alignas(kLineBytes) float logits_[kTileTokens][kLanes];       // [token][part, head]
  alignas(kLineBytes) float weights_[kHeads][kTileTokens];
  alignas(kLineBytes) uint8_t weight_rows_[kLanes * kLineBytes];  // [parity, part, head][token] bf16 pairs
};

void attend_bf16(const AttendCall& call) {
  if (call.head_dim > kMaxUnits * kUnit) return attend_avx512.bf16(call);
  _tile_loadconfig(&kTileShapes);
  if (call.head_dim == 4 * kUnit) {
    Attention<4>(call).run();
  } else {
    Attention<2>(call).run();
  }
  _tile_release();
}

}  // namespace

const AttendKernels attend_amx = {attend_avx512.f32, attend_bf16, attend_avx512.f16, kUnit};

}  // namespace pkv::cpu
