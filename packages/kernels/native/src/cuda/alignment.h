// What lies at a multiple of 16 bytes can be read and written in vectors.
#pragma once
#include <cstdint>
#include <string>

#include "core/error.h"
#include "core/operators.h"

namespace pkv::cuda {

constexpr size_t kVectorBytes = 16;

inline bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % kVectorBytes == 0; }
// Whether every row begins at such a multiple.
inline bool is_aligned(const Rows& rows) {
  return is_aligned(rows.data) && rows.row_stride * sizeof(float) % kVectorBytes == 0;
}

// Records are read and written in vectors. Throws where the window does not allow it.
inline void require_vectors(const Cache& cache) {
  const size_t past = reinterpret_cast<uintptr_t>(cache.window) % kVectorBytes;
  if (past == 0) return;
  throw invalid_argument("cache.window", "at a multiple of " + std::to_string(kVectorBytes) + " bytes",
                         "an address " + std::to_string(past) + " bytes past one");
}

}  // namespace pkv::cuda
