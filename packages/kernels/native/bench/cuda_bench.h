// What the benches of the GPU share: times and their spread, and memory that holds something.
#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../test/cuda_side.h"

namespace bench {

using conformance::Buffer;
using conformance::must;
using conformance::Owned;
using conformance::Side;

struct Spread {
  double median, low, high;  // the tenth and the ninetieth percentile
};

inline Spread spread_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double share) { return samples[std::lround(share * static_cast<double>(samples.size() - 1))]; };
  return {at(0.5), at(0.1), at(0.9)};
}

// Seconds of a tape's runs by the wall clock, its launch and the wait for its end included. `before` is called before
// each run, outside the time; the first `warm_runs` do not count.
template <class Before>
Spread time_tape(const Side& side, const Owned<pkv_tape>& tape, int runs, Before&& before, int warm_runs = 2) {
  std::vector<double> seconds;
  for (int run = -warm_runs; run < runs; ++run) {
    before();
    must(pkv_context_synchronize(side.context()));
    const auto start = std::chrono::steady_clock::now();
    must(pkv_tape_run(tape.get()));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (run >= 0) seconds.push_back(elapsed.count());
  }
  return spread_of(std::move(seconds));
}

inline void copy(const Side& side, const Buffer& from, const Buffer& to, uint64_t to_offset_bytes, uint64_t bytes) {
  const pkv_copy_params params = {{from.get(), 0}, {to.get(), to_offset_bytes}, bytes};
  must(pkv_copy(side.context(), &params));
}

// Repeats a pattern over all of a buffer: drawing gigabytes would take longer than the bench.
inline void fill(const Side& side, const Buffer& buffer, uint64_t bytes, const std::vector<uint8_t>& pattern) {
  uint64_t done = std::min<uint64_t>(bytes, pattern.size());
  must(pkv_buffer_write(buffer.get(), 0, pattern.data(), done));
  while (done < bytes) {
    const uint64_t next = std::min(done, bytes - done);
    copy(side, buffer, buffer, done, next);
    done += next;
  }
}

inline std::vector<float> normals(size_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  const auto uniform = [&] { return static_cast<float>(engine() >> 40) * 0x1p-24f; };
  std::vector<float> values(count);
  for (float& value : values) value = std::sqrt(-2 * std::log(1 - uniform())) * std::cos(6.2831853f * uniform());
  return values;
}

inline std::vector<uint8_t> bf16_of(const std::vector<float>& values) {
  std::vector<uint8_t> bytes(2 * values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, &values[i], 4);
    const uint16_t rounded = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    std::memcpy(&bytes[2 * i], &rounded, 2);
  }
  return bytes;
}

// What every cache of a bench has beside its own tables: signs, levels, and a calibration that changes nothing.
struct Codec {
  explicit Codec(uint32_t head_dim) : signs(head_dim, 1.0f) {
    for (uint32_t j = 0; j < head_dim; j += 3) signs[j] = -1.0f;
  }
  // [heads, 2, head_dim]
  std::vector<float> identity(uint64_t heads) const {
    std::vector<float> values(heads * 2 * signs.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = i / signs.size() % 2 == 1 ? 1.0f : 0.0f;
    return values;
  }
  void put(pkv_cache_params& params) const {
    params.signs = signs.data();
    params.centres = centres;
    params.thresholds = thresholds;
  }
  std::vector<float> signs;
  float centres[PKV_MAGNITUDE_LEVELS] = {0.0425f, 0.1280f, 0.2152f, 0.3053f, 0.4003f, 0.5030f, 0.6193f, 0.7648f};
  float thresholds[PKV_MAGNITUDE_LEVELS - 1] = {0.0853f, 0.1716f, 0.2603f, 0.3528f, 0.4516f, 0.5612f, 0.6921f};
};

// The flag's value among "--name value" arguments.
inline double flag(int argc, char** argv, const char* name, double standard) {
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], name) == 0) return std::atof(argv[i + 1]);
  }
  return standard;
}
// "--cpu" runs a bench on the CPU backend: it tries the program, where there is no GPU, at a small size.
inline pkv_device device_of(int argc, char** argv) {
  const auto wished = [](const char* argument) { return std::strcmp(argument, "--cpu") == 0; };
  return std::any_of(argv + 1, argv + argc, wished) ? PKV_CPU : PKV_CUDA;
}

}  // namespace bench
