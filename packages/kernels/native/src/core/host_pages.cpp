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
#include <unistd.h>
#endif

namespace pkv {

#if defined(__linux__)
namespace {

// Touching is zeroing: a few cores fill the memory's bandwidth, and a thread is worth its start from some 10 ms of work on.
constexpr size_t kMostThreads = 16;
constexpr size_t kThreadBytes = size_t{128} << 20;

// Faults all pages in; false when the system has no memory for them.
bool populate(uint8_t* memory, size_t bytes) {
#if defined(MADV_POPULATE_WRITE)
  constexpr int kPopulateWrite = MADV_POPULATE_WRITE;
#else
  constexpr int kPopulateWrite = 23;  // since Linux 5.14
#endif
  if (madvise(memory, bytes, kPopulateWrite) == 0) return true;
  if (errno == ENOMEM) return false;
  const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t at = 0; at < bytes; at += page_bytes) static_cast<volatile uint8_t*>(memory)[at] = 0;
  return true;
}

}  // namespace

// Each thread takes a share of whole huge pages.
bool touch_host_pages(uint8_t* memory, size_t bytes) {
  const size_t threads = std::min({static_cast<size_t>(usable_cores()), kMostThreads, bytes / kThreadBytes + 1});
  const size_t share = whole_huge_pages((bytes + threads - 1) / threads);
  std::atomic<bool> populated{true};
  const auto populate_share = [&](size_t begin) {
    if (!populate(memory + begin, std::min(share, bytes - begin))) populated = false;
  };
  std::array<std::thread, kMostThreads> helpers;
  size_t started = 0;
  for (size_t begin = share; begin < bytes; begin += share) {
    try {
      helpers[started] = std::thread(populate_share, begin);
      ++started;
    } catch (const std::system_error&) {  // no thread to be had
      populate_share(begin);
    }
  }
  populate_share(0);
  for (size_t helper = 0; helper < started; ++helper) helpers[helper].join();
  return populated;
}

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
  if (touch_host_pages(memory, bytes)) return memory;
  munmap(memory, bytes);
  return nullptr;
}

void unmap_host_pages(uint8_t* memory, size_t bytes) noexcept { munmap(memory, whole_huge_pages(bytes)); }

#else

uint8_t* map_host_pages(size_t) { return nullptr; }
void unmap_host_pages(uint8_t*, size_t) noexcept {}

bool touch_host_pages(uint8_t* memory, size_t bytes) {
  std::memset(memory, 0, bytes);
  return true;
}

#endif

}  // namespace pkv
