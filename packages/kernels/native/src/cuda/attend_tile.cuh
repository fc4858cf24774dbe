// A tile of records on its way to a warp: copied to shared memory without passing through registers, so that a warp has several
// tiles under way, from the device and from mapped host memory, while it works on one.
#pragma once
#include <cstdint>

#include "core/operators.h"

namespace pkv::cuda {

// What one kernel of attend is made for. A tile has 16 tokens, the depth of a matrix instruction, where they fit.
template <uint32_t kHeadDim, Dtype kDtype, uint32_t kHeads>
struct AttendShape {
  static constexpr uint32_t head_dim = kHeadDim;
  static constexpr uint32_t heads = kHeads;  // of a group; a smaller group is filled up with heads that nobody looks at
  static constexpr Dtype dtype = kDtype;
  static constexpr uint32_t element_bytes = kDtype == Dtype::f32 ? 4 : 2;
  static constexpr uint32_t record_bytes = 2 * kHeadDim * element_bytes;
  static constexpr uint32_t tile_tokens = record_bytes <= 1024 ? 16 : 8;
  static constexpr uint32_t tile_bytes = tile_tokens * record_bytes;
  static constexpr uint32_t stages = 3;                             // tiles of a warp
  static constexpr uint32_t warps = tile_bytes <= 8 << 10 ? 4 : 2;  // of a block: 96 KiB at most, for GPUs with 99
  static constexpr uint32_t threads = 32 * warps;
  static constexpr uint32_t warp_bytes = stages * tile_bytes;
  static constexpr uint32_t shared_bytes = warps * warp_bytes;
};

// Starts the copy of 16 bytes to shared memory, which passes by the first-level cache. Of them `bytes` are read, the others are
// zeros.
__device__ inline void copy_part(uint32_t to_shared, uint64_t from, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to_shared), "l"(from), "r"(bytes) : "memory");
}

// Records in shared memory, [tile_tokens, record_bytes], in parts of 16 bytes. Part p of token t lies at place p ^ (t % 8) of
// its record: the parts p of eight tokens lie in different banks, because record_bytes is a multiple of 128.
template <class S>
struct AttendTile {
  static constexpr uint32_t part_bytes = 16, parts = S::record_bytes / part_bytes;
  uint8_t* data;

  static __device__ uint32_t offset_of(uint32_t token, uint32_t part) {
    return token * S::record_bytes + (part ^ (token % 8)) * part_bytes;
  }
  // Element `index` of a token's K and V, [2, head_dim].
  __device__ const void* element(uint32_t token, uint32_t index) const {
    const uint32_t byte = index * S::element_bytes;
    return data + offset_of(token, byte / part_bytes) + byte % part_bytes;
  }
  __device__ uint32_t shared_address(uint32_t token, uint32_t part) const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(data)) + offset_of(token, part);
  }

  // Starts the copy. record: of lane t, the address of token t, or 0 for a token of zeros. Neighbouring lanes read
  // neighbouring parts, so that a record of 512 bytes is one access of the warp. `somewhere`: any readable address.
  __device__ void fetch(uint64_t record, const void* somewhere, uint32_t lane) const {
#pragma unroll
    for (uint32_t i = 0; i < S::tile_bytes / (32 * part_bytes); ++i) {
      const uint32_t token = (i * 32 + lane) / parts, part = (i * 32 + lane) % parts;
      const uint64_t from = __shfl_sync(0xffffffffu, record, token);
      const uint64_t address = from == 0 ? reinterpret_cast<uint64_t>(somewhere) : from + part * part_bytes;
      copy_part(shared_address(token, part), address, from == 0 ? 0 : part_bytes);
    }
  }
  // Writes one token's record to its line of the hot set. By the whole warp.
  __device__ void store(uint32_t token, uint8_t* line, uint32_t lane) const {
    for (uint32_t part = lane; part < parts; part += 32) {
      *reinterpret_cast<uint4*>(line + part * part_bytes) = *reinterpret_cast<const uint4*>(data + offset_of(token, part));
    }
  }
};

// The copies that a thread started since the last call are one group.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most kLeft of this thread's groups are under way.
template <uint32_t kLeft>
__device__ void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

}  // namespace pkv::cuda
