// The parts of rerank, in the order in which they are queued (docs/mathematics.md §3 step 5). Each only queues its work.
#pragma once
#include "cuda/cuda.h"

namespace pkv::cuda {

// With one rotated query: estimates of the candidates, which are their priorities.
void estimate_one_query(const Runtime&, const StageParams&);
// With several: estimates, then priorities.
void estimate_queries(const Runtime&, const StageParams&);
void prioritize(const Runtime&, const StageParams&);
// The top K by priority, where what makes the priorities has not chosen them (VoteScratch::chooses_at_once). Whichever does,
// writes NaN for the statistics where the plan wants no mass.
void choose_many(const Runtime&, const StageParams&);
// The statistics of the mass that is left out, where the plan wants it.
void estimate_mass(const Runtime&, const StageParams&);

}  // namespace pkv::cuda
