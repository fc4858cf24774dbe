// rope: rotary position embedding in place. The angle position * frequency is taken in double, where it is exact up to
// 2^29 tokens, so that its sine and cosine are right to f32 wherever a token stands. No table: a few nanoseconds an
// angle, in loops without branches.
#include <algorithm>
#include <cstring>

#include "cpu/cpu.h"

namespace pkv::cpu {
namespace {

constexpr uint32_t kPairs = 64;  // angles computed together

// cosines and sines [pairs] of position * frequencies [pairs]. With the quarter turn nearest to the angle taken off,
// |r| <= pi / 4, where the polynomials (Taylor's, to r^12 and r^13) err by less than 1e-12. Valid while the number of
// quarter turns fits 31 bits.
void rotations(int64_t position, const float* frequencies, uint32_t pairs, float* cosines, float* sines) {
  constexpr double kQuarterTurnsPerRadian = 0.63661977236758134308;  // 2 / pi
  // pi / 2 in two parts: the first has 33 significant bits, so that its product with up to 2^20 is exact.
  constexpr double kQuarterTurnHigh = 1.57079632673412561417;
  constexpr double kQuarterTurnLow = 6.07710050650619224932e-11;
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it leaves the rounded integer in the low bits
  const double at = static_cast<double>(position);
  double cosine[kPairs], sine[kPairs];
  int64_t quarter[kPairs];
  for (uint32_t j = 0; j < pairs; j++) {
    const double angle = at * static_cast<double>(frequencies[j]);
    const double shifted = angle * kQuarterTurnsPerRadian + kRound;
    const double turns = shifted - kRound;
    std::memcpy(&quarter[j], &shifted, sizeof shifted);
    const double r = (angle - turns * kQuarterTurnHigh) - turns * kQuarterTurnLow;
    const double s = r * r;
    sine[j] = r + r * s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880 + s * (-1.0 / 39916800 + s * (1.0 / 6227020800.0))))));
    cosine[j] = 1 + s * (-0.5 + s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320 + s * (-1.0 / 3628800 + s * (1.0 / 479001600))))));
  }
  for (uint32_t j = 0; j < pairs; j++) {
    const bool swaps = (quarter[j] & 1) != 0;
    const double c = swaps ? sine[j] : cosine[j];
    const double s = swaps ? cosine[j] : sine[j];
    cosines[j] = static_cast<float>(((quarter[j] + 1) & 2) != 0 ? -c : c);
    sines[j] = static_cast<float>((quarter[j] & 2) != 0 ? -s : s);
  }
}

void rotate_row(const RopeParams& params, size_t row) {
  const uint32_t half = params.head_dim / 2;
  for (uint32_t first = 0; first < half; first += kPairs) {
    const uint32_t pairs = std::min(kPairs, half - first);
    float cosines[kPairs], sines[kPairs];
    rotations(params.step.position(row), params.frequencies + first, pairs, cosines, sines);
    for (uint32_t head = 0; head < params.heads; head++) {
      float* x = params.x.row(row) + size_t{head} * params.head_dim + first;
      float* y = x + half;
      for (uint32_t j = 0; j < pairs; j++) {
        const float a = x[j], b = y[j];
        x[j] = a * cosines[j] - b * sines[j];
        y[j] = b * cosines[j] + a * sines[j];
      }
    }
  }
}

}  // namespace

void rope(Runtime& runtime, const RopeParams& params) {
  constexpr size_t kTaskRows = 8;  // some microseconds
  const size_t tasks = (params.step.row_count + kTaskRows - 1) / kTaskRows;
  parallel_for(runtime.pool, tasks, [&](size_t task, unsigned) {
    const size_t end = std::min<size_t>((task + 1) * kTaskRows, params.step.row_count);
    for (size_t r = task * kTaskRows; r < end; r++) {
      if (params.step.slot(r) >= 0) rotate_row(params, r);
    }
  });
}

}  // namespace pkv::cpu
