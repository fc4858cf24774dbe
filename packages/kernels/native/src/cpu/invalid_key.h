// Keys of zero or non-finite norm: never candidates. For drivers only (see cpu.h).
#pragma once
#include <cstdint>
#include <cstring>

namespace pkv::cpu {

// A key is invalid exactly when all its codes, [code_bytes], are zero: in some subspace the largest normalised coordinate of
// a valid key is at least 1 / sqrt(8), above the lowest threshold. code_bytes is a multiple of 8.
inline bool is_invalid_key(const uint8_t* codes, size_t code_bytes) {
  uint64_t any = 0;
  for (size_t at = 0; at < code_bytes && any == 0; at += sizeof any) std::memcpy(&any, codes + at, sizeof any);
  return any == 0;
}

}  // namespace pkv::cpu
