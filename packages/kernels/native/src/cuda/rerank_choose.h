// The second half of rerank: priorities, the top K of every KV head, and the mass that is left out.
#pragma once
#include "cuda/cuda.h"

namespace pkv::cuda {

// Queues it on the runtime's stream, after the estimates.
void choose_top(const Runtime&, const StageParams&);

}  // namespace pkv::cuda
