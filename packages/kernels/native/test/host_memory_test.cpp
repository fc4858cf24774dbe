// The memory of a CPU context on a machine that has little of it.
#include "cpu/host_memory.h"

#include <vector>

#include "check.h"
#include "core/error.h"
#include "core/host_pages.h"

namespace {

using pkv::MemoryKind;
using pkv::cpu::HostMemory;

uint64_t available_now = 0;
uint64_t available() { return available_now; }

// What the refusal says; a failure that is none.
pkv::Error refusal(HostMemory& memory, size_t bytes, MemoryKind kind) {
  try {
    memory.free(memory.allocate(bytes, kind));
  } catch (const pkv::Error& error) {
    return error;
  }
  return pkv::unsupported("a refusal");
}

bool is_zero(const uint8_t* memory, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    if (memory[i] != 0) return false;
  }
  return true;
}

void test_allocating_until_there_is_no_more() {
  HostMemory memory(available);
  constexpr size_t kBytes = 3 * pkv::kHugePageBytes + 5;  // no whole pages
  available_now = 4 * kBytes;
  std::vector<uint8_t*> held;
  while (available_now >= kBytes) {
    held.push_back(memory.allocate(kBytes, MemoryKind::mapped));
    available_now -= kBytes;
    CHECK(is_zero(held.back(), kBytes));
    held.back()[kBytes - 1] = 1;
  }
  CHECK(held.size() == 4);
  available_now = kBytes - 1;
  const pkv::Error error = refusal(memory, kBytes, MemoryKind::mapped);
  CHECK(error.failure == pkv::Failure::out_of_memory);
  CHECK(error.subject == "mapped");
  CHECK(error.requested_bytes == kBytes && error.available_bytes == kBytes - 1);
  // What is left can still be had, and so can everything once it was given back.
  memory.free(memory.allocate(100, MemoryKind::device));
  for (uint8_t* const piece : held) memory.free(piece);
  available_now = 4 * kBytes;
  CHECK(is_zero(memory.allocate(4 * kBytes, MemoryKind::pinned), 4 * kBytes));
  memory.free_all();
  memory.free_all();
}

// The system says no where nobody had counted: a size that no address space has room for.
void test_what_the_system_refuses() {
  HostMemory memory(available);
  available_now = UINT64_MAX;
  for (const size_t bytes : {SIZE_MAX, SIZE_MAX - pkv::kHugePageBytes, size_t{1} << 62}) {
    const pkv::Error error = refusal(memory, bytes, MemoryKind::device);
    CHECK(error.failure == pkv::Failure::out_of_memory && error.requested_bytes == bytes);
  }
}

// Large enough for several threads to touch it.
void test_pages_of_the_system() {
  if (!pkv::kMapsHostPages) return;
  constexpr size_t kBytes = (size_t{160} << 20) + 1;
  uint8_t* const memory = pkv::map_host_pages(kBytes);
  CHECK(memory != nullptr && reinterpret_cast<uintptr_t>(memory) % pkv::kHugePageBytes == 0);
  CHECK(pkv::whole_huge_pages(kBytes) == size_t{162} << 20);
  CHECK(is_zero(memory, pkv::whole_huge_pages(kBytes)));
  memory[pkv::whole_huge_pages(kBytes) - 1] = 1;
  pkv::unmap_host_pages(memory, kBytes);
}

}  // namespace

void test_host_memory(void) {
  test_allocating_until_there_is_no_more();
  test_what_the_system_refuses();
  test_pages_of_the_system();
}
