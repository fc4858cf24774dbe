// The choice of the top K among the candidates of one KV head.
#pragma once
#include <cstdint>

#include "cpu/plan_scratch.h"

namespace pkv::cpu {

// Writes the places of the min(top_k, count) highest of priorities [count], ties to the smaller place, to
// scratch.chosen, ascending, and returns their number. A priority that is not finite becomes -infinity.
uint32_t choose_top(float* priorities, uint32_t count, uint32_t top_k, RerankScratch& scratch);

}  // namespace pkv::cpu
