// The first half of attend where a cache has a hot set: which selected keys lie in it, and which will.
#pragma once
#include "cuda/cuda.h"

namespace pkv::cuda {

// Queues it on the runtime's stream. places: [max_rows, kv_heads, max_top_k], HotPlace.
void find_hot_places(const Runtime&, const AttendParams&, uint32_t* places);

}  // namespace pkv::cuda
