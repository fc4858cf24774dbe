#include "cpu/pool.h"

#include <chrono>
#include <utility>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace pkv::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// What a decoder's JavaScript takes between two tokens. A worker that slept begins some 20 to 60 microseconds late. The clock
// tells, because a pause takes 25 cycles on one processor and 140 on another.
constexpr std::chrono::microseconds kSpinTime(150);
constexpr int kPausesAClock = 32;
// Pauses until a thread that waits for another offers it its core.
constexpr int kPausesAYield = 3000;

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Pool::Pool(unsigned threads) {
  workers_.reserve(threads - 1);
  try {
    for (unsigned thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
  } catch (...) {
    stopping_ = true;
    { const std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    throw;
  }
}

Pool::~Pool() {
  stopping_ = true;
  { const std::lock_guard<std::mutex> lock(mutex_); }  // whoever decided to sleep is asleep by now
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::run(size_t count, void (*body)(void*, size_t, unsigned), void* argument) {
  if (workers_.empty() || count <= 1) {
    for (size_t index = 0; index < count; ++index) body(argument, index, 0);
    return;
  }
  job_ = {body, argument, count};
  next_index_.store(0, std::memory_order_relaxed);
  // Sequentially consistent, like all of open_, inside_, job_number_ and asleep_: each side first says what it does and then
  // looks at the other, so one of the two always notices.
  open_ = true;
  ++job_number_;
  if (asleep_ != 0) {
    { const std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  take_indices(0);
  open_ = false;
  for (int spins = 0; inside_ != 0; ++spins) {
    if (spins < kPausesAYield) pause();
    else std::this_thread::yield();  // more threads than cores: the one we wait for needs this one
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Pool::take_indices(unsigned thread) noexcept {
  const Job job = job_;
  try {
    for (;;) {
      const size_t index = next_index_.fetch_add(1, std::memory_order_relaxed);
      if (index >= job.count) return;
      job.body(job.argument, index, thread);
    }
  } catch (...) {
    next_index_.store(job.count, std::memory_order_relaxed);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void Pool::work(unsigned thread) {
  uint64_t seen = 0;
  while (await_job(seen)) {
    seen = job_number_;
    ++inside_;
    // A job that closed meanwhile is left alone; one that opened meanwhile is as good as the one that woke us.
    if (open_) take_indices(thread);
    --inside_;
  }
}

bool Pool::await_job(uint64_t seen) {
  for (const Clock::time_point end = Clock::now() + kSpinTime; Clock::now() < end;) {
    for (int spins = 0; spins < kPausesAClock; ++spins) {
      if (stopping_) return false;
      if (job_number_ != seen) return true;
      pause();
    }
  }
  std::unique_lock<std::mutex> lock(mutex_);
  ++asleep_;
  // A plain wait would ask for the libstdc++ of GCC 12, which some supported systems lack.
  while (!wake_.wait_for(lock, std::chrono::hours(1), [&] { return stopping_ || job_number_ != seen; })) {
  }
  --asleep_;
  return !stopping_;
}

}  // namespace pkv::cpu
