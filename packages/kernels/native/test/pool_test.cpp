// The thread pool: every index once, whatever the numbers of threads, jobs and pools.
#include "cpu/pool.h"

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"

namespace {

void hands_out_every_index_once() {
  for (const unsigned threads : {1u, 2u, 3u, 8u}) {
    pkv::cpu::Pool pool(threads);
    CHECK(pool.threads() == threads);
    for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{7}, size_t{1000}}) {
      for (int repetition = 0; repetition < 50; ++repetition) {
        std::vector<std::atomic<int>> visits(count);
        std::atomic<bool> thread_in_range{true};
        pkv::parallel_for(pool, count, [&](size_t index, unsigned thread) {
          if (thread >= threads) thread_in_range = false;
          ++visits[index];
        });
        bool once = true;
        for (const auto& visit : visits) once = once && visit == 1;
        CHECK(once && thread_in_range);
      }
    }
  }
}

// What a thread is told to prepare is what it takes next.
void tells_which_index_follows() {
  for (const unsigned threads : {1u, 2u, 8u}) {
    pkv::cpu::Pool pool(threads);
    for (const size_t count : {size_t{0}, size_t{1}, size_t{7}, size_t{1000}}) {
      std::vector<std::atomic<int>> visits(count);
      std::vector<std::vector<size_t>> indices(threads), followings(threads);
      pkv::parallel_for_ahead(pool, count, [&](size_t index, size_t following, unsigned thread) {
        ++visits[index];
        indices[thread].push_back(index);
        followings[thread].push_back(following);
      });
      bool once = true, told = true;
      for (const auto& visit : visits) once = once && visit == 1;
      for (unsigned thread = 0; thread < threads; ++thread) {
        const std::vector<size_t>&taken = indices[thread], &next = followings[thread];
        for (size_t i = 0; i < taken.size(); ++i) {
          told = told && (i + 1 < taken.size() ? next[i] == taken[i + 1] : next[i] >= count);
        }
      }
      CHECK(once && told);
    }
  }
}

// Jobs that follow at once meet spinning workers, jobs after a pause meet sleeping ones.
void wakes_sleeping_workers() {
  pkv::cpu::Pool pool(3);
  size_t total = 0;
  for (int job = 0; job < 40; ++job) {
    std::atomic<size_t> sum{0};
    pkv::parallel_for(pool, 100, [&](size_t index, unsigned) { sum += index; });
    total += sum;
    if (job % 4 == 0) {
      for (volatile int busy = 0; busy < 2000000; busy = busy + 1) {  // longer than workers spin
      }
    }
  }
  CHECK(total == 40 * 4950);
}

void throws_what_a_body_throws_and_goes_on() {
  pkv::cpu::Pool pool(4);
  for (int repetition = 0; repetition < 20; ++repetition) {
    bool caught = false;
    try {
      pkv::parallel_for(pool, 500, [&](size_t index, unsigned) {
        if (index % 50 == 7) throw std::runtime_error("seven");
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    CHECK(caught);
    std::atomic<int> visits{0};
    pkv::parallel_for(pool, 500, [&](size_t, unsigned) { ++visits; });
    CHECK(visits == 500);
  }
}

void pools_of_two_threads_do_not_meet() {
  std::atomic<int> wrong{0};
  const auto work = [&wrong] {
    pkv::cpu::Pool pool(2);
    for (int job = 0; job < 300; ++job) {
      std::atomic<int> visits{0};
      pkv::parallel_for(pool, 16, [&](size_t, unsigned) { ++visits; });
      if (visits != 16) ++wrong;
    }
  };
  std::thread first(work), second(work);
  first.join();
  second.join();
  CHECK(wrong == 0);
}

}  // namespace

void test_pool(void) {
  hands_out_every_index_once();
  tells_which_index_follows();
  wakes_sleeping_workers();
  throws_what_a_body_throws_and_goes_on();
  pools_of_two_threads_do_not_meet();
}
