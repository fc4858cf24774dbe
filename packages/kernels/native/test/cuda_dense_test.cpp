// The dense operators. Tolerances: both backends sum in f32 but in other orders, so they differ by a few units in the
// last place times the square root of the number of terms: far below 1e-5 of the length of a row.
#include "cuda_random.h"
#include "cuda_report.h"
#include "cuda_side.h"

namespace conformance {
namespace {

constexpr double kAllowed = 1e-5;
constexpr uint32_t kDtypes[] = {PKV_DTYPE_F32, PKV_DTYPE_BF16, PKV_DTYPE_F16};

struct Both {
  Side cpu{PKV_CPU}, cuda{PKV_CUDA};
};

// Calls run(side, out) on both sides, where `out` holds `begin` before, and gives what it holds then.
template <class Run>
std::pair<std::vector<float>, std::vector<float>> on_both(const Both& both, const std::vector<float>& begin,
                                                          Run&& run) {
  const auto on = [&](const Side& side) {
    const Buffer out = side.upload(begin);
    run(side, out);
    return Side::read<float>(out, begin.size());
  };
  return {on(both.cpu), on(both.cuda)};
}

void close_rows(Report& report, const std::vector<float>& want, const std::vector<float>& got, size_t width,
                const std::string& what) {
  for (size_t at = 0; at + width <= want.size(); at += width)
    report.close_vector(&want[at], &got[at], width, kAllowed, what);
}

void test_embed(Report& report, const Both& both) {
  Random random(3);
  for (const uint32_t dtype : kDtypes) {
    const uint32_t vocab = 50, width = 67;
    const std::vector<uint8_t> weight = stored(dtype, random.normals(size_t{vocab} * width));
    const std::vector<int32_t> tokens = {0, 49, 7, -1, 50, 7, INT32_MAX};
    const auto [want, got] =
        on_both(both, std::vector<float>(tokens.size() * 70, 9), [&](const Side& side, const Buffer& out) {
          const Buffer table = side.upload(weight), ids = side.upload(tokens);
          const pkv_embed_params params = {
              {ids.get(), 0},    {table.get(), 0}, dtype, vocab, width, static_cast<uint32_t>(tokens.size()),
              {out.get(), 0, 70}};
          must(pkv_embed(side.context(), &params));
        });
    report.same(want, got, std::string("embed ") + dtype_name(dtype));
  }
}

void test_rmsnorm(Report& report, const Both& both) {
  Random random(4);
  for (const uint32_t width : {1u, 31u, 64u, 256u, 1000u, 4096u}) {
    for (const uint32_t groups : {1u, 3u}) {
      for (const bool in_place : {false, true}) {
        const uint32_t rows = 5;
        const uint64_t stride = uint64_t{groups} * width + 3;
        const std::vector<float> x = random.normals(rows * stride, 3), weight = random.normals(width);
        const auto [want, got] = on_both(both, x, [&](const Side& side, const Buffer& out) {
          const Buffer source = side.upload(x), scales = side.upload(weight);
          const pkv_rows from = {in_place ? out.get() : source.get(), 0, stride};
          const pkv_rmsnorm_params params = {from, {scales.get(), 0},     1e-5f, width, groups,
                                             rows, {out.get(), 0, stride}};
          must(pkv_rmsnorm(side.context(), &params));
        });
        close_rows(report, want, got, stride, "rmsnorm of " + std::to_string(width));
      }
    }
  }
}

using Widths = std::vector<std::pair<uint32_t, uint32_t>>;

void test_linear(Report& report, const Both& both, const Widths& widths, const std::vector<uint32_t>& row_counts) {
  Random random(5);
  for (const uint32_t dtype : kDtypes) {
    for (const auto& [in_width, out_width] : widths) {
      const std::vector<uint8_t> weight = stored(dtype, random.normals(size_t{in_width} * out_width));
      const std::vector<float> bias = random.normals(out_width);
      for (const uint32_t rows : row_counts) {
        const bool with_bias = rows % 2 == 1, accumulate = rows % 3 == 0;
        const uint64_t x_stride = in_width + (rows % 2 == 0 ? 0 : 4), out_stride = out_width + 1;
        const std::vector<float> x = random.normals(rows * x_stride), begin = random.normals(rows * out_stride);
        const auto [want, got] = on_both(both, begin, [&](const Side& side, const Buffer& out) {
          const Buffer source = side.upload(x), matrix = side.upload(weight), added = side.upload(bias);
          const pkv_linear_params params = {{source.get(), 0, x_stride},
                                            {matrix.get(), 0},
                                            dtype,
                                            {with_bias ? added.get() : nullptr, 0},
                                            in_width,
                                            out_width,
                                            rows,
                                            accumulate,
                                            {out.get(), 0, out_stride}};
          side.run(rows == 2, [&] { must(pkv_linear(side.context(), &params)); });
        });
        close_rows(report, want, got, out_stride,
                   "linear " + std::to_string(in_width) + " to " + std::to_string(out_width) + ", rows " +
                       std::to_string(rows) + ", " + dtype_name(dtype));
      }
    }
  }
}

// Up to 32 rows, what a row gives does not depend on the rows beside it.
void test_linear_rows(Report& report, const Both& both) {
  Random random(6);
  const uint32_t in_width = 520, out_width = 77, most_rows = 32;
  const std::vector<uint8_t> weight = stored(PKV_DTYPE_BF16, random.normals(size_t{in_width} * out_width));
  const std::vector<float> x = random.normals(size_t{most_rows} * in_width);
  std::vector<float> alone;
  for (const uint32_t rows : {1u, 2u, 4u, 5u, 8u, 20u, 32u}) {
    const Buffer source = both.cuda.upload(x), matrix = both.cuda.upload(weight),
                 out = both.cuda.allocate(rows * out_width * 4);
    const pkv_linear_params params = {
        {source.get(), 0, in_width}, {matrix.get(), 0}, PKV_DTYPE_BF16, {nullptr, 0}, in_width, out_width, rows, 0,
        {out.get(), 0, out_width}};
    must(pkv_linear(both.cuda.context(), &params));
    const std::vector<float> first = Side::read<float>(out, out_width);
    if (alone.empty()) alone = first;
    report.same(alone, first, "the first of " + std::to_string(rows) + " rows as if alone");
  }
}

void test_rope(Report& report, const Both& both) {
  Random random(7);
  for (const uint32_t head_dim : {2u, 64u, 128u, 256u}) {
    const uint32_t heads = 3;
    const uint64_t stride = uint64_t{heads} * head_dim + 1;
    const std::vector<int32_t> table = {0, 0, 1, 1, -1, 5, 0, 4097, 2, 1048575, 0, 16777215, 1, 500000000};
    const uint32_t rows = static_cast<uint32_t>(table.size() / 2);
    std::vector<float> frequencies(head_dim / 2);
    for (uint32_t j = 0; j < head_dim / 2; ++j) frequencies[j] = static_cast<float>(std::pow(1e6, -2.0 * j / head_dim));
    const auto [want, got] = on_both(both, random.normals(rows * stride), [&](const Side& side, const Buffer& x) {
      const Buffer steps = side.upload(table), angles = side.upload(frequencies);
      const pkv_rope_params params = {
          {x.get(), 0, stride}, heads, head_dim, {angles.get(), 0}, {{steps.get(), 0}, rows}};
      must(pkv_rope(side.context(), &params));
    });
    close_rows(report, want, got, stride, "rope of " + std::to_string(head_dim));
  }
}

void test_swiglu(Report& report, const Both& both, const std::vector<uint32_t>& widths) {
  Random random(8);
  for (const uint32_t width : widths) {
    for (const bool in_place : {false, true}) {
      const uint32_t rows = 3;
      const uint64_t stride = 2 * width + 5;
      std::vector<float> x = random.normals(rows * stride, 5);
      x[0] = 100, x[stride] = -100, x[2 * stride] = -1000;
      const auto [want, got] = on_both(both, x, [&](const Side& side, const Buffer& out) {
        const Buffer source = side.upload(x);
        const pkv_rows from = {in_place ? out.get() : source.get(), 0, stride};
        const pkv_swiglu_params params = {from, width, rows, {out.get(), 0, stride}};
        must(pkv_swiglu(side.context(), &params));
      });
      close_rows(report, want, got, stride, "swiglu of " + std::to_string(width));
    }
  }
}

void test_argmax(Report& report, const Both& both, const std::vector<uint32_t>& widths) {
  Random random(9);
  for (const uint32_t width : widths) {
    const uint32_t rows = 6;
    std::vector<float> x = random.normals(size_t{rows} * width);
    for (uint32_t c = 0; c < width; ++c) {
      x[width + c] = std::floor(x[width + c]);  // ties
      x[2 * width + c] = NAN;                   // nothing wins
      x[3 * width + c] = -INFINITY;             // the first
      if (c % 2 == 0) x[4 * width + c] = NAN;
    }
    x[5 * width + width / 2] = INFINITY;
    const auto on = [&](const Side& side) {
      const Buffer source = side.upload(x), out = side.allocate(rows * 4);
      const pkv_argmax_params params = {{source.get(), 0, width}, width, rows, {out.get(), 0}};
      must(pkv_argmax(side.context(), &params));
      return Side::read<int32_t>(out, rows);
    };
    report.same(on(both.cpu), on(both.cuda), "argmax of " + std::to_string(width));
  }
}

}  // namespace

void test_dense(Report& report) {
  const Both both;
  report.group("dense: embed", [&] { test_embed(report, both); });
  report.group("dense: rmsnorm", [&] { test_rmsnorm(report, both); });
  const Widths widths = {{1, 1}, {7, 5}, {64, 33}, {256, 688}, {257, 70}, {1000, 129}, {4096, 512}};
  report.group("dense: linear, 1 to 130 rows",
               [&] { test_linear(report, both, widths, {1, 2, 3, 8, 9, 31, 33, 130}); });
  report.group("dense: linear, a row and those beside it", [&] { test_linear_rows(report, both); });
  report.group("dense: rope", [&] { test_rope(report, both); });
  report.group("dense: swiglu", [&] { test_swiglu(report, both, {1, 33, 688, 14336}); });
  report.group("dense: argmax", [&] { test_argmax(report, both, {1, 5, 1000, 4096, 128256}); });
}

void test_quick_dense(Report& report) {
  const Both both;
  report.group("quick: dense operators", [&] {
    test_embed(report, both);
    test_rmsnorm(report, both);
    test_linear(report, both, {{7, 5}, {64, 33}, {257, 70}}, {1, 3, 9, 33, 70});
    test_rope(report, both);
    test_swiglu(report, both, {1, 33});
    test_argmax(report, both, {1, 5, 1000});
  });
}

}  // namespace conformance
