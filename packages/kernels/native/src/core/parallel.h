// The thread pool as operators see it.
#pragma once
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

}  // namespace pkv
