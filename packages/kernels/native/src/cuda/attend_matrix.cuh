// The running softmax of a warp on the matrix units, for K and V of 16 bits: 16 tokens at a time, all heads of the group.
//
//   logits [heads, tokens] = queries · K^T     output^T [head_dim, heads] = V^T · weights^T
//
// Queries and weights are f32. Each becomes the sum of two numbers of 16 bits, which leaves an error of 2^-16: the high and the
// low parts of the queries are rows 0..7 and 8..15 of the left matrix; those of the weights are columns of their own. With at
// most four heads, rows 4..7 repeat rows 0..3 and so do the logits, and their columns take the low parts of the weights.
// The products go into f32 sums. Layouts are those of mma.m16n8k16: r = lane / 4 and c = lane % 4 below.
#pragma once
#include <cmath>

#include "cuda/attend_tile.cuh"
#include "cuda/kv_element.cuh"
#include "cuda/softmax.cuh"

namespace pkv::cuda {

template <Dtype kDtype>
struct MatrixElement {
  // Two values as they lie in a register of a matrix; leaves what rounding took from them.
  static __device__ uint32_t split(float& first, float& second) {
    uint32_t pair;
    if constexpr (kDtype == Dtype::bf16) {
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
      first -= bf16_to_f32(static_cast<uint16_t>(pair));
      second -= bf16_to_f32(static_cast<uint16_t>(pair >> 16));
    } else {
      asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
      first -= f16_to_f32(static_cast<uint16_t>(pair));
      second -= f16_to_f32(static_cast<uint16_t>(pair >> 16));
    }
    return pair;
  }
  // sums += left [16, 16] · right [16, 8]
  static __device__ void multiply(float (&sums)[4], const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1) {
    if constexpr (kDtype == Dtype::bf16) {
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
          "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
          : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
          : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
    } else {
      asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
          "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
          : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
          : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
    }
  }
};

// Four matrices of 8 rows of 16 bytes; lane l gives the address of row l % 8 of matrix l / 8. Lane l gets elements 2 (l % 4)
// and the next of row l / 4 of each, transposed: of column l / 4.
__device__ inline void load_matrices(uint32_t (&matrices)[4], uint32_t shared_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared_address)
               : "memory");
}
__device__ inline void load_transposed(uint32_t (&matrices)[4], uint32_t shared_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared_address)
               : "memory");
}

template <class S>
class MatrixSoftmax {
  static_assert(S::tile_tokens == 16 && (S::heads == 4 || S::heads == 8), "the shape of the matrices");
  using Element = MatrixElement<S::dtype>;
  static constexpr uint32_t kSteps = S::head_dim / 16;  // matrices along head_dim
  static constexpr uint32_t kAllLanes = 0xffffffffu;
  static constexpr uint32_t kVParts = S::head_dim * S::element_bytes / AttendTile<S>::part_bytes;  // parts of K before V

 public:
  // source: [query_group, head_dim]. Row r stands for head r % heads.
  __device__ void begin(const float* source, uint32_t query_group, float scale, uint32_t lane) {
    const uint32_t head = lane / 4 % S::heads;
    float2 values[kSteps][2];  // coordinates 16 step + 2 c and the next; 16 step + 8 + 2 c and the next
    float largest = 0.0f;
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half) {
        float2 pair = make_float2(0.0f, 0.0f);
        if (head < query_group) {
          const float* const from = source + head * S::head_dim + 16 * step + 8 * half + 2 * (lane % 4);
          pair = make_float2(from[0], from[1]);  // rows need not begin at a multiple of 8 bytes
        }
        pair.x *= scale, pair.y *= scale;
        largest = fmaxf(largest, fmaxf(fabsf(pair.x), fabsf(pair.y)));
        values[step][half] = pair;
      }
    }
    // f16 has few exponents: the query is multiplied by a power of two that brings its largest coordinate to 2^10..2^11, and
    // logits are divided by it. Products with K, below 2^16, stay far from the end of f32.
    unit_ = 1.0f;
    if constexpr (S::dtype == Dtype::f16) {
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
      int exponent = 11;
      if (largest >= kSmallest && largest < INFINITY) frexpf(largest, &exponent);
      unit_ = ldexpf(1.0f, exponent - 11);
    }
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half) {
        float x = values[step][half].x / unit_, y = values[step][half].y / unit_;
        queries_[step][2 * half] = Element::split(x, y);
        queries_[step][2 * half + 1] = Element::split(x, y);
      }
    }
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) output_[step][i] = 0.0f;
    }
    maximum_ = -INFINITY;
    sum_ = 0.0f;
  }

  // Adds the first `tokens` tokens of a tile; the others are zeros.
  __device__ void add(const AttendTile<S>& tile, uint32_t tokens, uint32_t lane) {
    float logits[4];  // of head r: tokens 2 c, 2 c + 1, 8 + 2 c, 9 + 2 c
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      float sums[2][4] = {};  // of even and of odd steps: two chains of dependent instructions
#pragma unroll
      for (uint32_t step = 0; step < kSteps; step += 2) {
        uint32_t k[4];
        load_matrices(k, tile.shared_address(8 * half + lane % 8, 2 * step + lane / 8));
        Element::multiply(sums[0], queries_[step], k[0], k[1]);
        Element::multiply(sums[1], queries_[step + 1], k[2], k[3]);
      }
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        logits[2 * half + i] = ((sums[0][i] + sums[1][i]) + (sums[0][i + 2] + sums[1][i + 2])) * unit_;
      }
    }
    // A logit that is not finite is left out together with its V.
    float largest = maximum_;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t token = i / 2 * 8 + 2 * (lane % 4) + i % 2;
      if (token >= tokens || !isfinite(logits[i])) logits[i] = -INFINITY;
      largest = fmaxf(largest, logits[i]);
    }
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
    const float rescale = largest == maximum_ ? 1.0f : share_of_largest(maximum_, largest);
    maximum_ = largest;
    sum_ *= rescale;
    float weights[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      weights[i] = share_of_largest(logits[i], largest);
      sum_ += weights[i];
    }
    if (__any_sync(kAllLanes, rescale != 1.0f)) {
      // Columns 2 c and 2 c + 1 belong to the heads of rows of the same numbers.
      const float even = __shfl_sync(kAllLanes, rescale, 8 * (lane % 4));
      const float odd = __shfl_sync(kAllLanes, rescale, 8 * (lane % 4) + 4);
#pragma unroll
      for (uint32_t step = 0; step < kSteps; ++step) {
        output_[step][0] *= even, output_[step][1] *= odd, output_[step][2] *= even, output_[step][3] *= odd;
      }
    }
    uint32_t high[2], low[2];
#pragma unroll
    for (uint32_t half = 0; half < 2; ++half) {
      high[half] = Element::split(weights[2 * half], weights[2 * half + 1]);
      low[half] = Element::split(weights[2 * half], weights[2 * half + 1]);
      if (S::heads == 4 && lane >= 16) high[half] = low[half];
    }
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
      uint32_t v[4];  // tokens 0..7 of 8 coordinates, of the next 8, then tokens 8..15 of both
      load_transposed(v, tile.shared_address(lane % 8 + lane / 16 * 8, kVParts + 2 * step + lane / 8 % 2));
      Element::multiply(output_[step], v, high[0], high[1]);
      if constexpr (S::heads == 8) Element::multiply(output_[step], v, low[0], low[1]);
    }
  }

  // False where a V that is not finite was met: it would spoil heads that give it no weight. By all lanes alike.
  __device__ bool holds() const {
    bool finite = true;
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) finite = finite && isfinite(output_[step][i]);
    }
    return __all_sync(kAllLanes, finite) != 0;
  }

  // Calls write(head, coordinate, value) once for each, and write_sums(head, maximum, sum).
  template <class Write, class WriteSums>
  __device__ void end(uint32_t lane, const Write& write, const WriteSums& write_sums) {
    sum_ += __shfl_xor_sync(kAllLanes, sum_, 1);
    sum_ += __shfl_xor_sync(kAllLanes, sum_, 2);
    if (lane % 4 == 0 && lane / 4 < S::heads) write_sums(lane / 4, maximum_, sum_);
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        float value = output_[step][i];
        if (S::heads == 4) value += __shfl_xor_sync(kAllLanes, value, 2);  // the low part: four columns on
        const uint32_t column = 2 * (lane % 4) + i % 2;
        if (column < S::heads) write(column, 16 * step + lane / 4 + i / 2 * 8, value);
      }
    }
  }

 private:
  static constexpr float kSmallest = 1.1754943508e-38f;  // of f32, but for subnormal numbers

  uint32_t queries_[kSteps][4];
  float output_[kSteps][4];  // coordinates 16 step + r, then + 8; heads 2 c, 2 c + 1
  float maximum_, sum_;      // of head r; `sum_` of this lane's tokens alone
  float unit_;               // of the query of head r
};

}  // namespace pkv::cuda
