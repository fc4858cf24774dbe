// The parts of rerank, in the order in which they are queued (algorithm.md §3 step 5). Each only queues its work.
#pragma once
#include "cuda/cuda.h"

namespace pkv::cuda {

// Estimates of the candidates. With one rotated query they are the priorities, which are written and counted, too.
void estimate_candidates(const Runtime&, const StageParams&);
// Of several rotated queries: priorities, and their counts.
void prioritize(const Runtime&, const StageParams&);
// The top K by priority. Where the plan wants no mass, its statistics become NaN.
void choose_top(const Runtime&, const StageParams&);
// The statistics of the mass that is left out.
void estimate_mass(const Runtime&, const StageParams&);

}  // namespace pkv::cuda
