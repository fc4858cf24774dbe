#include "cpu/rerank_mass.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace pkv::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// With fewer candidates than this, their scores say nothing about the keys that are not candidates.
constexpr double kLeastCandidates = 8;
constexpr uint32_t kBinMask = RerankScratch::bins - 1;
static_assert((PKV_NO_SCORE & kBinMask) >= PKV_SCORE_BINS, "keys without a score fall into a bin that nobody reads");

// Four partial histograms of the scores, [4, bins]. Four scores are one load; most of the time goes here.
void count_scores(const uint16_t* scores, uint32_t tokens, uint32_t* counts) {
  constexpr size_t bins = RerankScratch::bins;
  std::memset(counts, 0, 4 * bins * sizeof(uint32_t));
  uint32_t i = 0;
  for (; i + 4 <= tokens; i += 4) {
    uint64_t four;
    std::memcpy(&four, scores + i, sizeof four);
    counts[four & kBinMask]++;
    counts[bins + (four >> 16 & kBinMask)]++;
    counts[2 * bins + (four >> 32 & kBinMask)]++;
    counts[3 * bins + (four >> 48 & kBinMask)]++;
  }
  for (; i < tokens; i++) counts[scores[i] & kBinMask]++;
}

}  // namespace

OtherKeys::OtherKeys(const uint16_t* scores, uint32_t zone_tokens, const uint32_t* candidates, uint32_t count,
                     RerankScratch& scratch)
    : counts_(scratch.histogram) {
  constexpr size_t bins = RerankScratch::bins;
  uint32_t* counts = scratch.histogram;
  count_scores(scores, zone_tokens, counts);
  for (size_t bin = 0; bin < bins; bin++) {
    counts[bin] += counts[bins + bin] + counts[2 * bins + bin] + counts[3 * bins + bin];
  }
  const uint32_t origin = count > 0 ? scores[candidates[0]] : 0;
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t score = scores[candidates[i]];
    counts[score & kBinMask]--;
    scratch.candidate_scores[i] = static_cast<float>(static_cast<int32_t>(score - origin));
  }
  score_origin_ = origin;
  for (uint32_t score = 0; score < PKV_SCORE_BINS; score++) {
    if (counts[score] == 0) continue;
    if (!any_) lowest_ = score;
    highest_ = score;
    any_ = true;
  }
}

double OtherKeys::log_sum(const Moments& moments, double scale) const {
  if (!any_) return -kInfinity;
  if (moments.count == 0) return kInfinity;
  const double n = moments.count;
  const double mean_score = moments.scores / n, mean = moments.logits / n;
  const double score_variance = moments.score_squares / n - mean_score * mean_score;
  const double covariance = moments.products / n - mean_score * mean;
  const double variance = moments.logit_squares / n - mean * mean;
  const bool usable = n >= kLeastCandidates && moments.score_squares > 0 && score_variance > 0;
  const double slope = usable ? covariance / score_variance : 0;
  const double residual = std::max(variance - slope * covariance, 0.0);
  // Counts times powers of exp(-|b|), by Horner's rule towards the score of the largest term: nothing overflows.
  const double b = scale * slope;
  const double ratio = std::exp(-std::abs(b));
  const int64_t step = b >= 0 ? 1 : -1;
  const int64_t last = b >= 0 ? highest_ : lowest_;
  double sum = 0;
  for (int64_t score = b >= 0 ? lowest_ : highest_; score != last + step; score += step)
    sum = sum * ratio + counts_[score];
  const double logit_at_last = scale * mean + b * (static_cast<double>(last) - score_origin_ - mean_score);
  return std::log(sum) + logit_at_last + scale * scale * residual / 2;
}

double log_sum_unselected(const RerankKernels& kernels, float* estimates, uint32_t count, uint32_t chosen, float scale,
                          RerankScratch& scratch) {
  if (chosen == count) return -kInfinity;
  // The selected ones step aside as values that the kernels leave out; a difference of two sums would lose the digits.
  for (uint32_t i = 0; i < chosen; i++) {
    scratch.chosen_estimates[i] = estimates[scratch.chosen[i]];
    estimates[scratch.chosen[i]] = -std::numeric_limits<float>::infinity();
  }
  const float reference = scale * kernels.largest(estimates, count);
  const double sum = std::isfinite(reference) ? kernels.exp_sum(estimates, count, scale, reference) : 0;
  for (uint32_t i = 0; i < chosen; i++) estimates[scratch.chosen[i]] = scratch.chosen_estimates[i];
  return sum > 0 ? double{reference} + std::log(sum) : -kInfinity;
}

void centring_shifts(const Cache& cache, uint32_t layer, size_t head, const float* rotated, uint32_t queries,
                     double* shifts) {
  const uint32_t d = cache.head_dim;
  const float* mu = cache.calibration + (size_t{layer} * cache.kv_heads + head) * 2 * d;
  const float* balance = mu + d;
  std::fill(shifts, shifts + queries, 0.0);
  if (std::all_of(mu, mu + d, [](float x) { return x == 0; })) return;
  double mean[PKV_MAX_HEAD_DIM];
  for (uint32_t j = 0; j < d; j++) mean[j] = double{cache.signs[j]} * mu[j] / balance[j];
  for (uint32_t h = 1; h < d; h *= 2) {
    for (uint32_t i = 0; i < d; i += 2 * h) {
      for (uint32_t j = i; j < i + h; j++) {
        const double a = mean[j], b = mean[j + h];
        mean[j] = a + b;
        mean[j + h] = a - b;
      }
    }
  }
  const double norm = 1 / std::sqrt(static_cast<double>(d));
  for (uint32_t query = 0; query < queries; query++) {
    for (uint32_t j = 0; j < d; j++) shifts[query] += norm * mean[j] * rotated[size_t{query} * d + j];
  }
}

}  // namespace pkv::cpu
