#include <cmath>
#include <limits>

#include "cpu/rerank_kernels.h"
#include "cpu/weight_byte.h"

namespace pkv::cpu {
namespace {

void estimate(const EstimateBlock& block) {
  const uint32_t d = block.head_dim;
  for (uint32_t i = 0; i < block.keys; i++) {
    float key[PKV_MAX_HEAD_DIM];
    for (uint32_t b = 0; b < d / PKV_SUBSPACE_DIM; b++) {
      const float weight = decode_weight(block.weights[i][b]);
      for (uint32_t j = b * PKV_SUBSPACE_DIM; j < (b + 1) * PKV_SUBSPACE_DIM; j += 2) {
        const uint8_t pair = block.codes[i][j / 2];
        key[j] = weight * block.values[pair & 15];
        key[j + 1] = weight * block.values[pair >> 4];
      }
    }
    for (uint32_t h = 0; h < block.queries; h++) {
      float lanes[PKV_SUBSPACE_DIM] = {};
      for (uint32_t j = 0; j < d; j += PKV_SUBSPACE_DIM) {
        for (uint32_t l = 0; l < PKV_SUBSPACE_DIM; l++) lanes[l] += key[j + l] * block.rotated[h * d + j + l];
      }
      block.estimates[h * block.estimate_stride + i] =
          ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
    }
  }
}

float largest(const float* x, size_t count) {
  float result = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < count; i++) {
    if (std::isfinite(x[i]) && x[i] > result) result = x[i];
  }
  return result;
}

double exp_sum(const float* x, size_t count, float scale, float reference) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) {
    if (std::isfinite(x[i])) sum += std::exp(scale * x[i] - reference);
  }
  return sum;
}

void raise_to_share(const float* x, size_t count, float scale, float log_sum, float* y) {
  for (size_t i = 0; i < count; i++) {
    const float share = scale * x[i] - log_sum;
    if (share > y[i]) y[i] = share;
  }
}

void add_softmax(const float* x, size_t count, float scale, float reference, float* exps, float* y) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) {
    exps[i] = std::exp(scale * x[i] - reference);
    if (std::isfinite(x[i])) sum += exps[i];
  }
  const float share = static_cast<float>(1 / sum);
  for (size_t i = 0; i < count; i++) y[i] += share * exps[i];
}

Moments moments(const float* x, const float* scores, size_t count) {
  Moments sums{};
  for (size_t i = 0; i < count; i++) {
    if (!std::isfinite(x[i])) continue;
    const double logit = x[i], score = scores[i];
    sums.count += 1;
    sums.scores += score;
    sums.logits += logit;
    sums.score_squares += score * score;
    sums.logit_squares += logit * logit;
    sums.products += score * logit;
  }
  return sums;
}

}  // namespace

const RerankKernels rerank_portable = {estimate, 0, largest, exp_sum, raise_to_share, add_softmax, moments};

}  // namespace pkv::cpu
