// What all running softmaxes share.
#pragma once
#include <cmath>

namespace pkv::cuda {

// exp(a - b) where b is a maximum that a went into; 0 for a of -infinity, also beside b of -infinity.
__device__ inline float share_of_largest(float a, float b) { return a == -INFINITY ? 0.0f : expf(a - b); }

}  // namespace pkv::cuda
