// Queries of the steps of one tape over layers in turn, drawn anew before each of its runs.
#pragma once
#include "cuda_bench.h"

namespace bench {

// A layer keeps a base for each row; a step has sqrt(1 - drift) * base + sqrt(drift) * noise, all of them standard normal. Any
// two steps of a layer then correlate by 1 - drift, and so do the scores that a key has in both. With a drift of 1 all is new.
class Queries {
 public:
  // step_floats: of all rows of one step. steps: a whole number of rounds over the layers.
  Queries(const Side& side, uint32_t layers, uint32_t steps, uint64_t step_floats)
      : step_bytes_(step_floats * 4),
        base_(normals(layers * step_floats, 6)),
        noise_(normals(steps * step_floats + kTurnFloats, 5)),
        now_(steps * step_floats),
        buffer_(side.allocate(steps * step_bytes_)) {}

  void draw(double drift) {
    noise_at_ = (noise_at_ + kNextFloats) % kTurnFloats;
    const float* const noise = &noise_[noise_at_];
    const auto kept = static_cast<float>(std::sqrt(1 - drift)), fresh = static_cast<float>(std::sqrt(drift));
    for (size_t round = 0; kept > 0 && round < now_.size(); round += base_.size()) {
      for (size_t i = 0; i < base_.size(); ++i) now_[round + i] = kept * base_[i] + fresh * noise[round + i];
    }
    must(pkv_buffer_write(buffer_.get(), 0, kept > 0 ? now_.data() : noise, now_.size() * 4));
  }
  // [rows, query heads, head_dim]
  pkv_ref of_step(uint32_t step) const { return {buffer_.get(), step * step_bytes_}; }

 private:
  // The same noise comes again soon, but to another layer or head: 4099 is 3 more than a multiple of the heads of any round.
  static constexpr size_t kTurnFloats = 1 << 20, kNextFloats = 4099 * 128;

  uint64_t step_bytes_;
  std::vector<float> base_;   // [layers, rows, query heads, head_dim]
  std::vector<float> noise_;  // of which every run takes another stretch
  std::vector<float> now_;    // [steps, rows, query heads, head_dim]
  Buffer buffer_;
  size_t noise_at_ = 0;
};

}  // namespace bench
