// What attention leaves out: the estimated mass of the keys that are not selected (docs/mathematics.md §5).
#pragma once
#include "cpu/plan_scratch.h"
#include "cpu/rerank_kernels.h"

namespace pkv::cpu {

// The keys outside the candidates of one KV head, counted by collision score.
class OtherKeys {
 public:
  // scores [zone_tokens]; candidates [count]. Leaves the candidates' scores, less the first one's, in
  // scratch.candidate_scores and the counts in scratch.histogram.
  OtherKeys(const uint16_t* scores, uint32_t zone_tokens, const uint32_t* candidates, uint32_t count,
            RerankScratch& scratch);

  // Log-sum-exp of their logits: a least-squares line through (score, logit) of the candidates, whose residual variance
  // v makes a key of score z worth exp(a + b z + v / 2). `moments` are those of the estimates, logit = scale *
  // estimate. -infinity without such keys, +infinity without a candidate to judge them by.
  double log_sum(const Moments& moments, double scale) const;

 private:
  const uint32_t* counts_;
  uint32_t lowest_ = 0, highest_ = 0;  // scores of the first and last key
  bool any_ = false;
  double score_origin_ = 0;  // the first candidate's score, subtracted from all so that equal scores have variance 0
};

// Log-sum-exp of scale * estimates[i] over the candidates outside scratch.chosen [chosen].
double log_sum_unselected(const RerankKernels&, float* estimates, uint32_t count, uint32_t chosen, float scale,
                          RerankScratch&);

// <q, mu>, which centring takes from every estimate, for `queries` rotated queries [queries, head_dim]: as the rotation
// keeps inner products, <q', mu / D> = <rotated, R(mu / D)> (docs/mathematics.md §6).
void centring_shifts(const Cache&, uint32_t layer, size_t head, const float* rotated, uint32_t queries, double* shifts);

}  // namespace pkv::cpu
