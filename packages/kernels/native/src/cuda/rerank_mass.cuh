// What attention leaves out: the estimated mass of the keys that are not selected (docs/mathematics.md §5).
#pragma once
#include "core/operators.h"
#include "cuda/compact.cuh"
#include "cuda/reduce.cuh"
#include "cuda/vote_scratch.h"

namespace pkv::cuda {

// Sums over the candidates whose estimate is finite, about the line through (score, logit). Scores are counted from that of
// the first candidate.
struct Moments {
  double count, scores, logits, score_squares, logit_squares, products;

  __device__ void add(double score, double logit) {
    count += 1;
    scores += score;
    logits += logit;
    score_squares += score * score;
    logit_squares += logit * logit;
    products += score * logit;
  }
  __device__ void add(const Moments& other) {
    count += other.count;
    scores += other.scores;
    logits += other.logits;
    score_squares += other.score_squares;
    logit_squares += other.logit_squares;
    products += other.products;
  }
};

__device__ inline Moments block_sum(const Moments& own, double (&partials)[32]) {
  return {block_reduce(own.count, partials, Sum()),         block_reduce(own.scores, partials, Sum()),
          block_reduce(own.logits, partials, Sum()),        block_reduce(own.score_squares, partials, Sum()),
          block_reduce(own.logit_squares, partials, Sum()), block_reduce(own.products, partials, Sum())};
}

// The line through (score, logit) of the candidates: a key of score z is worth exp(at_zero + slope * z), z counted from 0.
struct Line { double slope, at_zero; };

__device__ inline Line fit_line(const Moments& moments, double score_origin, double scale) {
  constexpr double kLeastCandidates = 8;  // with fewer, their scores say nothing about the other keys
  const double n = moments.count;
  const double mean_score = moments.scores / n, mean = moments.logits / n;
  const double score_variance = moments.score_squares / n - mean_score * mean_score;
  const double covariance = moments.products / n - mean_score * mean;
  const double variance = moments.logit_squares / n - mean * mean;
  const bool usable = n >= kLeastCandidates && moments.score_squares > 0 && score_variance > 0;
  const double slope = usable ? covariance / score_variance : 0;
  const double residual = fmax(variance - slope * covariance, 0.0);
  return {scale * slope, scale * mean - scale * slope * (score_origin + mean_score) + scale * scale * residual / 2};
}

// Log-sum-exp of the logits of the keys counted by score in counts [kCountBins], by the whole block. -infinity without
// keys, +infinity without a candidate to judge them by.
__device__ inline double log_sum_others(const uint32_t* counts, const Moments& moments, double score_origin, double scale,
                                        uint32_t (&integers)[32], FixedSum (&sums)[32]) {
  constexpr uint32_t kOwn = kCountBins / kBlockThreads;
  uint32_t highest = 0, from_top = 0;  // of the scores that occur, plus 1, so that 0 stands for none
  for (uint32_t i = 0; i < kOwn; ++i) {
    const uint32_t score = i * kBlockThreads + threadIdx.x;
    if (counts[score] == 0) continue;
    highest = max(highest, score + 1);
    from_top = max(from_top, kCountBins - score);
  }
  highest = block_reduce(highest, integers, Largest());
  from_top = block_reduce(from_top, integers, Largest());
  if (highest == 0) return -INFINITY;
  if (moments.count == 0) return INFINITY;
  const Line line = fit_line(moments, score_origin, scale);
  // Relative to the score of the largest term, so that nothing overflows. Counts add up to fewer than 2^23 tokens.
  const double at = line.slope >= 0 ? highest - 1 : kCountBins - from_top;
  FixedSum sum = 0;
  for (uint32_t i = 0; i < kOwn; ++i) {
    const uint32_t score = i * kBlockThreads + threadIdx.x;
    if (counts[score] == 0) continue;
    sum += counts[score] * to_fixed(expf(static_cast<float>(line.slope * (score - at))));
  }
  return log(from_fixed(block_reduce(sum, sums, Sum()))) + line.at_zero + line.slope * at;
}

// <q, mu>, which centring takes from every estimate: as the rotation keeps inner products, <q', mu / D> =
// <rotated, R(mu / D)> (docs/mathematics.md §6). mu, balance, rotated: [head_dim]; signs: bit j set where sign j is -1. By a warp.
template <class IsNegative>
__device__ double centring_shift(const float* mu, const float* balance, const float* rotated, uint32_t head_dim,
                                 const IsNegative& is_negative) {
  constexpr uint32_t kMostOwn = PKV_MAX_HEAD_DIM / 32;
  const uint32_t lane = threadIdx.x % 32, own = head_dim / 32;
  double mean[kMostOwn];
  bool centred = false;
#pragma unroll
  for (uint32_t r = 0; r < kMostOwn; ++r) {
    const uint32_t j = r * 32 + lane;
    const float value = r < own ? mu[j] : 0.0f;
    centred |= value != 0.0f;
    mean[r] = r < own ? (is_negative(j) ? -1.0 : 1.0) * value / balance[j] : 0.0;
  }
  if (!__any_sync(0xffffffffu, centred)) return 0;
#pragma unroll
  for (uint32_t half = 1; half < 32; half *= 2) {
#pragma unroll
    for (uint32_t r = 0; r < kMostOwn; ++r) {
      const double other = __shfl_xor_sync(0xffffffffu, mean[r], half);
      mean[r] = (lane & half) != 0 ? other - mean[r] : mean[r] + other;
    }
  }
#pragma unroll
  for (uint32_t half = 1; half < kMostOwn; half *= 2) {
    if (half >= own) continue;
#pragma unroll
    for (uint32_t r = 0; r < kMostOwn; ++r) {
      if ((r & half) != 0) continue;
      const double a = mean[r], b = mean[r + half];
      mean[r] = a + b;
      mean[r + half] = a - b;
    }
  }
  double shift = 0;
#pragma unroll
  for (uint32_t r = 0; r < kMostOwn; ++r) {
    if (r < own) shift += mean[r] * rotated[r * 32 + lane];
  }
  return warp_reduce(shift, Sum()) / sqrt(static_cast<double>(head_dim));
}

}  // namespace pkv::cuda
