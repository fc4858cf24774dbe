#include "core/host_pages.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "core/host_limits.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pkv {
namespace {

// Touching is zeroing: a few cores fill the memory's bandwidth, and a thread is worth its start from some 10 ms of work on.
constexpr size_t kMostThreads = 16;
constexpr size_t kThreadBytes = size_t{128} << 20;

// Calls work(memory, bytes) for shares of whole huge pages, each in a thread of its own.
template <class Work>
void share_out(uint8_t* memory, size_t bytes, const Work& work) {
  const size_t threads = std::min({static_cast<size_t>(usable_cores()), kMostThreads, bytes / kThreadBytes + 1});
  const size_t share = whole_huge_pages((bytes + threads - 1) / threads);
  const auto work_from = [&](size_t begin) { work(memory + begin, std::min(share, bytes - begin)); };
  std::array<std::thread, kMostThreads> helpers;
  size_t started = 0;
  for (size_t begin = share; begin < bytes; begin += share) {
    try {
      helpers[started] = std::thread(work_from, begin);
      ++started;
    } catch (const std::system_error&) {  // no thread to be had
      work_from(begin);
    }
  }
  work_from(0);
  for (size_t helper = 0; helper < started; ++helper) helpers[helper].join();
}

}  // namespace

void zero_host_memory(uint8_t* memory, size_t bytes) {
  share_out(memory, bytes, [](uint8_t* from, size_t count) { std::memset(from, 0, count); });
}

#if defined(__linux__)
namespace {

// Faults all pages in; false when the system has no memory for them.
bool populate(uint8_t* memory, size_t bytes) {
#if defined(MADV_POPULATE_WRITE)
  constexpr int kPopulateWrite = MADV_POPULATE_WRITE;
#else
  constexpr int kPopulateWrite = 23;  // since Linux 5.14
#endif
  if (madvise(memory, bytes, kPopulateWrite) == 0) return true;
  if (errno != EINVAL) return false;
  std::memset(memory, 0, bytes);  // a system that does not know the wish
  return true;
}

bool populate_all(uint8_t* memory, size_t bytes) {
  std::atomic<bool> populated{true};
  share_out(memory, bytes, [&](uint8_t* from, size_t count) {
    if (!populate(from, count)) populated = false;
  });
  return populated;
}

}  // namespace

uint8_t* map_host_pages(size_t bytes) {
  if (bytes > SIZE_MAX - 2 * kHugePageBytes) return nullptr;
  bytes = whole_huge_pages(bytes);
  // One huge page more than wanted, then cut to alignment.
  const size_t reserved = bytes + kHugePageBytes;
  void* start = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  uint8_t* const from = static_cast<uint8_t*>(start);
  const size_t before = (kHugePageBytes - reinterpret_cast<uintptr_t>(from) % kHugePageBytes) % kHugePageBytes;
  if (before != 0) munmap(from, before);
  if (before != kHugePageBytes) munmap(from + before + bytes, kHugePageBytes - before);
  uint8_t* const memory = from + before;
  madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: without huge pages it works all the same
  if (populate_all(memory, bytes)) return memory;
  munmap(memory, bytes);
  return nullptr;
}

void unmap_host_pages(uint8_t* memory, size_t bytes) noexcept { munmap(memory, whole_huge_pages(bytes)); }

#else

uint8_t* map_host_pages(size_t) { return nullptr; }
void unmap_host_pages(uint8_t*, size_t) noexcept {}

#endif

}  // namespace pkv
