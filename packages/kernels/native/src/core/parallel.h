// The thread pool as operators see it.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>

namespace pkv {

class Parallel {
 public:
  virtual ~Parallel() = default;
  virtual unsigned threads() const = 0;
  // Calls body(argument, index, thread) once for every index in [0, count), on all threads; returns when all are done.
  // `thread` is in [0, threads()), for per-thread scratch. Indices are handed out dynamically.
  virtual void run(size_t count, void (*body)(void* argument, size_t index, unsigned thread), void* argument) = 0;
};

// parallel_for(pool, count, [&](size_t index, unsigned thread) { ... })
template <class Body>
void parallel_for(Parallel& pool, size_t count, Body&& body) {
  pool.run(count, [](void* b, size_t index, unsigned thread) { (*static_cast<Body*>(b))(index, thread); }, &body);
}

// The same for work that can prepare what comes after it: body(index, following, thread), where `following` is what this thread
// takes next, or not below `count` when nothing is left.
template <class Body>
void parallel_for_ahead(Parallel& pool, size_t count, const Body& body) {
  std::atomic<size_t> next_index{0};
  parallel_for(pool, std::min<size_t>(count, pool.threads()), [&](size_t, unsigned thread) {
    size_t index = next_index.fetch_add(1, std::memory_order_relaxed);
    while (index < count) {
      const size_t following = next_index.fetch_add(1, std::memory_order_relaxed);
      body(index, following, thread);
      index = following;
    }
  });
}

}  // namespace pkv
