// The thread pool of one CPU context: the caller of `run` is thread 0 and works beside `threads() - 1` others.
#pragma once
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace pkv::cpu {

// One `run` at a time, from any thread. Idle workers spin for 150 microseconds, because the next operator of a tape
// follows at once, and then sleep, because the next token may not.
class Pool final : public Parallel {
 public:
  explicit Pool(unsigned threads);
  ~Pool() override;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  unsigned threads() const override { return static_cast<unsigned>(workers_.size()) + 1; }
  // If a body throws, no further index is handed out and the first exception is thrown here.
  void run(size_t count, void (*body)(void* argument, size_t index, unsigned thread), void* argument) override;

 private:
  struct Job {
    void (*body)(void* argument, size_t index, unsigned thread);
    void* argument;
    size_t count;
  };

  void work(unsigned thread);
  void take_indices(unsigned thread) noexcept;
  // Returns when there is a job after number `seen`, or false when the pool ends.
  bool await_job(uint64_t seen);

  Job job_{};
  // Written by every thread, so each has a cache line of its own.
  alignas(64) std::atomic<size_t> next_index_{0};
  alignas(64) std::atomic<unsigned> inside_{0};  // workers that may be looking at job_
  alignas(64) std::atomic<bool> open_{false};    // whether job_ may be worked on
  std::atomic<uint64_t> job_number_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<unsigned> asleep_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::exception_ptr failure_;
  std::vector<std::thread> workers_;
};

}  // namespace pkv::cpu
