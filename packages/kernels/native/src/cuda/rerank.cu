// rerank: estimates of the candidates, the top K of every KV head and, where the plan wants it, the mass that is left out.
#include "cuda/rerank_stages.h"
#include "cuda/vote_scratch.h"

namespace pkv::cuda {

void rerank(Runtime& runtime, const StageParams& params) {
  if (params.plan->rotated_queries == 1) {
    estimate_one_query(runtime, params);
  } else {
    estimate_queries(runtime, params);
    prioritize(runtime, params);
  }
  if (!VoteScratch(*params.plan).chooses_at_once) choose_many(runtime, params);
  if (params.plan->estimate_mass) estimate_mass(runtime, params);
}

}  // namespace pkv::cuda
