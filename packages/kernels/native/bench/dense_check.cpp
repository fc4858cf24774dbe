// Checks the dense operators of every instruction set against plain loops in double, without Node: for work on a kernel
// and for runs under sanitizers. Prints the largest error of each, ends with 1 when one is too large.
//   dense_check [threads] [portable|avx2|avx512]
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#include "dense_bench.h"

using namespace pkv;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
std::mt19937 random_bits(20);  // seed 20
int failures = 0;

float random_value() { return std::uniform_real_distribution<float>(-1, 1)(random_bits); }

void report(cpu::Isa isa, const char* what, double error, double allowed) {
  const bool fails = !(error <= allowed);
  failures += fails;
  std::printf("%-8s %-48s error %.2e of %.0e%s\n", cpu::isa_name(isa), what, error, allowed, fails ? "  TOO LARGE" : "");
}

// Values and the same values as stored in a dtype.
struct Stored {
  Dtype dtype;
  std::vector<float> values;
  std::vector<uint16_t> halves;

  Stored(Dtype type, size_t count) : dtype(type), values(count), halves(type == Dtype::f32 ? 0 : count) {
    for (size_t i = 0; i < count; i++) set(i, random_value());
  }
  void set(size_t i, float value) {
    values[i] = value;
    if (dtype == Dtype::f32) return;
    uint32_t bits;
    if (dtype == Dtype::bf16) {
      std::memcpy(&bits, &value, 4);
      halves[i] = static_cast<uint16_t>(bits >> 16);
      bits &= 0xffff0000;
      std::memcpy(&values[i], &bits, 4);
      return;
    }
    if (!std::isfinite(value)) {
      halves[i] = static_cast<uint16_t>(std::isnan(value) ? 0x7e00 : value > 0 ? 0x7c00 : 0xfc00);
      return;
    }
    // A multiple of 2^-24 below 1 with eleven significant bits: exact in half precision.
    int exponent;
    const float fraction = std::frexp(std::abs(value), &exponent);
    const bool tiny = exponent < -13;
    const int bits_kept = tiny ? 24 + exponent : 11;
    const float rounded = std::ldexp(std::trunc(std::ldexp(fraction, bits_kept)), exponent - bits_kept);
    values[i] = std::copysign(rounded, value);
    const auto multiple = static_cast<uint32_t>(std::ldexp(rounded, tiny ? 24 : 11 - exponent));
    halves[i] = static_cast<uint16_t>((std::signbit(value) ? 0x8000 : 0) +
                                      (tiny ? multiple : (static_cast<uint32_t>(exponent + 14) << 10) + (multiple & 1023)));
  }
  const void* data() const { return dtype == Dtype::f32 ? static_cast<const void*>(values.data()) : halves.data(); }
};

void check_linear(cpu::Runtime& runtime, Dtype dtype) {
  double worst = 0;
  bool same_bits = true;
  for (const uint32_t in : {1u, 3u, 16u, 17u, 255u, 256u, 1024u, 1025u, 2100u}) {
    for (const uint32_t out : {1u, 3u, 6u, 17u, 40u}) {
      constexpr uint32_t kMost = 70;
      Stored weight(dtype, size_t{in} * out);
      const size_t x_stride = in + 3, out_stride = out + 5;
      std::vector<float> x(kMost * x_stride), bias(out), older(kMost * out_stride), first;
      for (auto* values : {&x, &bias, &older}) for (float& value : *values) value = random_value();
      for (const uint32_t rows : {kMost, 1u, 2u, 7u, 33u}) {
        std::vector<float> result = older;
        cpu::linear(runtime, {{x.data(), x_stride}, weight.data(), dtype, bias.data(), in, out, rows, true, {result.data(), out_stride}});
        if (first.empty()) first = result;
        for (uint32_t r = 0; r < kMost; r++) {
          for (uint32_t o = 0; o < out_stride; o++) {
            const size_t at = r * out_stride + o;
            if (r >= rows || o >= out) {  // beside the result nothing may change
              same_bits = same_bits && result[at] == older[at];
              continue;
            }
            double sum = bias[o] + double{older[at]}, size = 1;
            for (uint32_t c = 0; c < in; c++) {
              const double product = double{x[r * x_stride + c]} * weight.values[size_t{o} * in + c];
              sum += product;
              size += std::abs(product);
            }
            worst = std::max(worst, std::abs(result[at] - sum) / size);
            same_bits = same_bits && result[at] == first[at];
          }
        }
      }
    }
  }
  char what[64];
  std::snprintf(what, sizeof what, "linear %s", bench::name(dtype));
  report(runtime.isa, what, worst, 1e-6);
  report(runtime.isa, "linear: bits that depend on the rows beside", same_bits ? 0 : 1, 0);
}

// Slot 1 of two: sink, two pages in falling order, and a ring that wraps. Some keys and values are not finite.
void check_attend_causal(cpu::Runtime& runtime, Dtype dtype, uint32_t head_dim, uint32_t group) {
  constexpr uint32_t kSink = 5, kZone = 700, kRing = 640, kHeads = 2, kLayers = 2, kLast = 1300;
  Cache cache{};
  cache.layers = kLayers;
  cache.kv_heads = kHeads;
  cache.query_group = group;
  cache.head_dim = head_dim;
  cache.kv_dtype = dtype;
  cache.slots = 2;
  cache.sink_tokens = kSink;
  cache.ring_tokens = kRing;
  cache.max_pages = cache.page_capacity = 2;
  int32_t zone_tokens[2] = {0, kZone};
  const uint32_t page_table[4] = {0, 0, 1, 0};
  cache.zone_tokens = zone_tokens;
  cache.page_table = page_table;
  const size_t record = cache.record_bytes(), page = kHeads * cache.head_page_record_bytes();  // of one layer
  std::vector<uint8_t> window(2 * kLayers * kHeads * cache.window_tokens() * record, 0x7f), pages(kLayers * 2 * page, 0x7f);
  const auto address = reinterpret_cast<uint64_t>(pages.data());
  const uint64_t addresses[2 * PKV_PAGE_ADDRESS_FIELDS] = {0, address, 2 * page, 0, address + page, 2 * page};
  cache.window = window.data();
  cache.page_address = addresses;

  const uint32_t layer = 1;
  std::vector<Stored> records;  // by head: [kLast + 1, 2, head_dim]
  for (uint32_t head = 0; head < kHeads; head++) {
    records.emplace_back(dtype, size_t{kLast + 1} * 2 * head_dim);
    Stored& stored = records.back();
    stored.set(size_t{300} * 2 * head_dim + 3, kNan);                 // a key
    stored.set(size_t{300} * 2 * head_dim + head_dim + 3, kNan);      // and its value
    stored.set(size_t{301} * 2 * head_dim, kInfinity);                // a key
    stored.set(size_t{1290} * 2 * head_dim + head_dim + 1, kNan);     // a value
    for (uint32_t position = 0; position <= kLast; position++) {
      const bool zone = position >= kSink && position < kSink + kZone;
      const uint32_t token = position - kSink;
      uint8_t* to = zone ? cache.records_of(page_table[2 + token / PKV_PAGE_TOKENS], layer, head) + token % PKV_PAGE_TOKENS * record
                         : cache.window_of(1, layer, head) + cache.window_row(position) * record;
      std::memcpy(to, static_cast<const uint8_t*>(stored.data()) + position * record, record);
    }
  }

  double worst = 0;
  bool nan_where_due = true, same_bits = true;
  const size_t width = size_t{cache.query_heads()} * head_dim;
  constexpr uint32_t kRows = 150;
  constexpr uint32_t kFirst = kLast + 1 - kRows;
  std::vector<float> q(kRows * width), whole;
  for (float& value : q) value = 2 * random_value();
  std::vector<int32_t> table(2 * kRows);
  for (uint32_t r = 0; r < kRows; r++) {
    table[2 * r] = 1;
    table[2 * r + 1] = static_cast<int32_t>(kFirst + r);
  }
  for (const uint32_t chunk : {kRows, 1u, 33u}) {
    std::vector<float> out(kRows * width, 9);
    for (uint32_t first = 0; first < kRows; first += chunk) {
      cpu::attend_causal(runtime, {&cache, layer, {table.data(), kRows}, first, std::min(chunk, kRows - first), {q.data(), width}, {out.data(), width}});
    }
    if (whole.empty()) whole = out;
    same_bits = same_bits && std::memcmp(whole.data(), out.data(), out.size() * sizeof(float)) == 0;
  }
  for (const uint32_t r : {0u, 1u, 77u, kRows - 12, kRows - 11, kRows - 1}) {
    for (uint32_t h = 0; h < cache.query_heads(); h++) {
      const std::vector<float>& stored = records[h / group].values;
      std::vector<double> sum(head_dim), logits;
      double maximum = -1e300, total = 0;
      for (uint32_t position = 0; position <= kFirst + r; position++) {
        double logit = 0;
        for (uint32_t c = 0; c < head_dim; c++) {
          logit += double{q[r * width + h * head_dim + c]} * stored[size_t{position} * 2 * head_dim + c] / std::sqrt(head_dim);
        }
        logits.push_back(logit);
        if (std::isfinite(logit)) maximum = std::max(maximum, logit);
      }
      for (uint32_t position = 0; position <= kFirst + r; position++) {
        if (!std::isfinite(logits[position])) continue;
        const double weight = std::exp(logits[position] - maximum);
        total += weight;
        for (uint32_t c = 0; c < head_dim; c++) sum[c] += weight * stored[(size_t{position} * 2 + 1) * head_dim + c];
      }
      for (uint32_t c = 0; c < head_dim; c++) {
        const float actual = whole[r * width + h * head_dim + c];
        const double expected = sum[c] / total;
        nan_where_due = nan_where_due && std::isnan(actual) == std::isnan(expected);
        if (!std::isnan(expected)) worst = std::max(worst, std::abs(actual - expected));
      }
    }
  }
  char what[64];
  std::snprintf(what, sizeof what, "attend_causal %s, head_dim %u, group %u", bench::name(dtype), head_dim, group);
  report(runtime.isa, what, worst, 2e-6);
  report(runtime.isa, "attend_causal: NaN where it does not belong", nan_where_due ? 0 : 1, 0);
  report(runtime.isa, "attend_causal: bits that depend on the chunk", same_bits ? 0 : 1, 0);
}

void check_rope(cpu::Runtime& runtime) {
  double worst = 0;
  for (const uint32_t head_dim : {2u, 6u, 64u, 130u, 256u}) {
    std::vector<float> frequencies(head_dim / 2);
    for (uint32_t j = 0; j < head_dim / 2; j++) frequencies[j] = static_cast<float>(std::pow(1e6, -2.0 * j / head_dim));
    for (const int32_t position : {0, 1, 4095, 1000000, 2147483647}) {
      const int32_t table[4] = {-1, position, 0, position};
      std::vector<float> x(6 * size_t{head_dim});
      for (float& value : x) value = random_value();
      const std::vector<float> older = x;
      cpu::rope(runtime, {{x.data(), size_t{3} * head_dim}, 3, head_dim, frequencies.data(), {table, 2}});
      for (uint32_t i = 0; i < 3 * head_dim; i++) if (x[i] != older[i]) worst = kInfinity;  // slot -1
      for (uint32_t head = 0; head < 3; head++) {
        for (uint32_t j = 0; j < head_dim / 2; j++) {
          const size_t at = (3 + head) * size_t{head_dim} + j, pair = at + head_dim / 2;
          const double angle = double{frequencies[j]} * position;
          // At 2^31 a double holds the angle to 2.4e-7.
          const double scale = position > 1000000 ? 4 : 1;
          worst = std::max(worst, std::abs(x[at] - (older[at] * std::cos(angle) - older[pair] * std::sin(angle))) / scale);
          worst = std::max(worst, std::abs(x[pair] - (older[pair] * std::cos(angle) + older[at] * std::sin(angle))) / scale);
        }
      }
    }
  }
  report(runtime.isa, "rope, positions 0 .. 2^31 - 1", worst, 2e-7);
}

void check_swiglu(cpu::Runtime& runtime) {
  double worst = 0;
  for (const uint32_t width : {1u, 3u, 17u, 255u, 256u}) {
    std::vector<float> x(4 * size_t{width}), out(2 * size_t{width});
    for (float& value : x) value = 30 * random_value();
    x[0] = -200;
    cpu::swiglu(runtime, {{x.data(), 2 * size_t{width}}, width, 2, {out.data(), width}});
    for (uint32_t i = 0; i < 2 * width; i++) {
      const double gate = x[i / width * 2 * width + i % width], up = x[(i / width * 2 + 1) * width + i % width];
      const double expected = gate / (1 + std::exp(-gate)) * up;
      worst = std::max(worst, std::abs(out[i] - expected) / (std::abs(expected) + 1e-28));
    }
  }
  report(runtime.isa, "swiglu, relative above 1e-28", worst, 1e-6);
}

}  // namespace

int main(int argc, char** argv) {
  cpu::Pool pool(bench::threads_of(argc, argv));
  for (const cpu::Isa isa : bench::instruction_sets(argc, argv)) {
    cpu::Runtime runtime{pool, isa};
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
      check_linear(runtime, dtype);
      check_attend_causal(runtime, dtype, 128, 2);
    }
    check_attend_causal(runtime, Dtype::bf16, 64, 7);
    check_attend_causal(runtime, Dtype::bf16, 256, 1);
    check_rope(runtime);
    check_swiglu(runtime);
  }
  return failures == 0 ? 0 : 1;
}
