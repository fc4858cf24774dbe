// Large pieces of host memory, straight from the system: what arenas are made of.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pkv {

constexpr size_t kHugePageBytes = size_t{2} << 20;

// Whether the system can be asked; elsewhere map_host_pages gives null.
#if defined(__linux__)
constexpr bool kMapsHostPages = true;
#else
constexpr bool kMapsHostPages = false;
#endif

inline size_t whole_huge_pages(size_t bytes) { return (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes; }

// whole_huge_pages(bytes) zeroed bytes, aligned to huge pages and made of them where the system likes. They are touched: what
// was granted is there. Null when the system has none. `unmap_host_pages` gives them back.
uint8_t* map_host_pages(size_t bytes);
void unmap_host_pages(uint8_t* memory, size_t bytes) noexcept;

// Writes zeros to all of it, with several threads where it is much, and so makes the system provide the pages.
void zero_host_memory(uint8_t* memory, size_t bytes);

}  // namespace pkv
