// How the work of each row and KV head is shared among threads.
// For drivers only: inline functions do not belong in the `_avx2` and `_avx512` files (see cpu.h).
#pragma once
#include <algorithm>
#include <cstddef>

namespace pkv::cpu {

// Tasks that the work of each of `heads` rows and KV heads is cut into, `most` of them at most: some eight a thread, so that
// the threads finish together. More would cost: a task begins with memory that nobody has prefetched.
inline size_t tasks_a_head(size_t most, size_t heads, unsigned threads) {
  constexpr size_t kTasksAThread = 8;
  return std::min(most, (kTasksAThread * threads + heads - 1) / heads);
}

}  // namespace pkv::cpu
