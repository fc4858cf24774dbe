#include "cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace pkv::cuda {
namespace {

constexpr size_t kParts = 8;
constexpr size_t kPartBytes = size_t{1} << 20;
constexpr size_t kAlignBytes = 64;

size_t align_up(size_t bytes) { return (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes; }

}  // namespace

Staging::Staging() : memory_(allocate_page_locked(kParts * kPartBytes)) {
  for (size_t part = 0; part < kParts; ++part) emptied_.emplace_back(cudaEventDisableTiming);
}

void Staging::write(cudaStream_t stream, uint8_t* to, const void* source, size_t bytes) {
  const uint8_t* from = static_cast<const uint8_t*>(source);
  while (bytes > 0) {
    if (used_bytes_ == kPartBytes) {
      check(cudaEventRecord(emptied_[part_], stream), "cudaEventRecord");
      part_ = (part_ + 1) % kParts;
      check(cudaEventSynchronize(emptied_[part_]), "cudaEventSynchronize");  // at once where none was recorded yet
      used_bytes_ = 0;
    }
    const size_t now_bytes = std::min(bytes, kPartBytes - used_bytes_);
    uint8_t* const stage = memory_.get() + part_ * kPartBytes + used_bytes_;
    std::memcpy(stage, from, now_bytes);
    check(cudaMemcpyAsync(to, stage, now_bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
    used_bytes_ = align_up(used_bytes_ + now_bytes);
    from += now_bytes;
    to += now_bytes;
    bytes -= now_bytes;
  }
}

}  // namespace pkv::cuda
