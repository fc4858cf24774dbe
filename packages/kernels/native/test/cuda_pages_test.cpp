// append, encode, offload and commit: equal bytes on both devices, offloads beside tapes, too. And attend_causal over sink,
// pages and ring.
#include "cuda_report.h"
#include "cuda_scene.h"

namespace conformance {
namespace {

template <class T>
std::vector<T> whole(const Buffer& buffer, const std::vector<T>& like) {
  return Side::read<T>(buffer, like.size());
}

// Everything that the page operators write.
void same_cache(Report& report, const PlacedScene& cpu, const PlacedScene& cuda, const std::string& what) {
  const SceneData& data = cpu.data;
  report.same(whole(cpu.window, data.window), whole(cuda.window, data.window), what + ": windows");
  report.same(whole(cpu.summaries, data.page_summaries), whole(cuda.summaries, data.page_summaries),
              what + ": summaries");
  report.same(whole(cpu.records, data.page_records), whole(cuda.records, data.page_records), what + ": records");
  report.same(whole(cpu.id_counts, data.id_counts), whole(cuda.id_counts, data.id_counts), what + ": id counts");
  report.same(whole(cpu.invalid_keys, data.invalid_keys), whole(cuda.invalid_keys, data.invalid_keys),
              what + ": invalid keys");
  report.same(whole(cpu.zone_tokens, data.zone_tokens), whole(cuda.zone_tokens, data.zone_tokens),
              what + ": zone tokens");
}

// Values that are awkward to round: halfway cases, subnormal halves, overflows, infinities, NaN with payloads.
std::vector<float> awkward_values(Random& random, size_t count) {
  std::vector<float> values = random.normals(count);
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, &values[i], 4);
    switch (i % 9) {
      case 1: bits = (bits & 0xffff0000u) | 0x8000u; break;
      case 2: bits = (bits & 0xffffe000u) | 0x1000u; break;
      case 3: bits = (bits & 0x80ffffffu) | 0x33000000u; break;
      case 4: bits = 0x477fe000u + (bits & 0x80001fffu); break;
      case 5: bits = (bits & 0x80000000u) | 0x7f800000u; break;
      case 6: bits = bits | 0x7f800001u; break;
      case 7: bits = bits & 0x800fffffu; break;
      default: break;
    }
    std::memcpy(&values[i], &bits, 4);
  }
  return values;
}

void test_append(Report& report, const SceneData& data, const PlacedScene& cpu, const PlacedScene& cuda) {
  const SceneParams& p = data.params;
  Random random(p.seed + 50);
  std::vector<int32_t> table;
  for (uint32_t row = 0; row < 40; ++row) {
    // Distinct places: in the sink, and in the ring behind the present tokens and round its end.
    const uint32_t slot = row % p.slots(), position = row / p.slots();
    table.push_back(row % 7 == 6 ? -1 : static_cast<int32_t>(slot));
    table.push_back(static_cast<int32_t>(row < 20 ? position : p.tokens(slot) + p.ring_tokens + position));
  }
  const uint32_t rows = static_cast<uint32_t>(table.size() / 2), width = p.kv_heads * p.head_dim;
  const std::vector<float> k = awkward_values(random, size_t{rows} * (width + 3)),
                           v = awkward_values(random, size_t{rows} * width);
  for (const PlacedScene* scene : {&cpu, &cuda}) {
    const Buffer steps = scene->side.upload(table), keys = scene->side.upload(k), values = scene->side.upload(v);
    for (uint32_t layer = 0; layer < p.layers; ++layer) {
      const pkv_append_params params = {
          scene->cache.get(), layer, {{steps.get(), 0}, rows}, {keys.get(), 0, width + 3}, {values.get(), 0, width}};
      must(pkv_append(scene->side.context(), &params));
    }
  }
  report.same(whole(cpu.window, data.window), whole(cuda.window, data.window), describe(p) + ": windows after append");
}

// A token in every row of every window: page numbers choose where in the ring a page begins.
std::vector<uint8_t> full_window(const SceneData& data, uint64_t seed) {
  const SceneParams& p = data.params;
  std::vector<uint8_t> window = data.window;
  Random random(seed);
  for (size_t row = 0; row < window.size() / p.record_bytes(); ++row) {
    const uint32_t slot = random.below(p.slots());
    const uint8_t* const from = data.record(slot, random.below(p.heads()), random.below(p.tokens(slot)));
    std::memcpy(&window[row * p.record_bytes()], from, p.record_bytes());
  }
  return window;
}

void test_page_operators(Report& report, const SceneParams& params, const Side& cpu_side, const Side& cuda_side) {
  const SceneData data(params, cpu_side);
  const PlacedScene cpu(cpu_side, data), cuda(cuda_side, data);
  const std::vector<uint8_t> window = full_window(data, params.seed + 51);
  for (const PlacedScene* scene : {&cpu, &cuda}) {
    Side::write(scene->window, window);
    for (uint32_t slot = 0; slot < params.slots(); ++slot) {
      for (uint32_t page_index = 0; page_index < params.max_pages(); page_index += 1 + slot % 2) {
        const pkv_page_params page = {scene->cache.get(), slot, page_index,
                                      data.page_table[size_t{slot} * params.max_pages() + page_index]};
        scene->side.run(page_index % 2 == 1, [&] {
          must(pkv_encode(scene->side.context(), &page));
          must(pkv_offload(scene->side.context(), &page));
          must(pkv_commit(scene->side.context(), &page));
        });
      }
    }
  }
  same_cache(report, cpu, cuda, describe(params));
  test_append(report, data, cpu, cuda);
}

// Pages that are on their way to the host while tapes append to other rows of the ring. The page is large, so that on a
// GPU its offload outlasts a tape; the result is that of doing one after the other.
void test_offload_beside_tapes(Report& report, const Side& cpu_side, const Side& cuda_side) {
  SceneParams params;
  params.layers = 4;
  params.kv_heads = 8;
  params.head_dim = 128;
  params.ring_tokens = 1300;
  params.zone_tokens = {3 * PKV_PAGE_TOKENS, PKV_PAGE_TOKENS};
  params.ring_used = {64, 64};
  const SceneData data(params, cpu_side);
  const PlacedScene cpu(cpu_side, data), cuda(cuda_side, data);
  const std::vector<uint8_t> window = full_window(data, 53);
  constexpr uint32_t kRows = 40;
  const uint32_t width = params.kv_heads * params.head_dim;
  const std::vector<float> values = Random(54).normals(size_t{kRows} * width);
  for (const PlacedScene* scene : {&cpu, &cuda}) {
    pkv_context* const context = scene->side.context();
    Side::write(scene->window, window);
    const Buffer steps = scene->side.allocate(kRows * 8), rows = scene->side.upload(values);
    const Owned<pkv_tape> appends = scene->side.record([&] {
      for (uint32_t layer = 0; layer < params.layers; ++layer) {
        const pkv_append_params append = {
            scene->cache.get(), layer, {{steps.get(), 0}, kRows}, {rows.get(), 0, width}, {rows.get(), 0, width}};
        must(pkv_append(context, &append));
      }
    });
    for (uint32_t page_index = 0; page_index < 3; ++page_index) {
      const pkv_page_params page = {scene->cache.get(), 0, page_index, data.page_table[page_index]};
      must(pkv_encode(context, &page));
      must(pkv_offload(context, &page));
      const uint32_t behind = params.sink_tokens + (page_index + 1) * PKV_PAGE_TOKENS;  // the page's last token
      for (uint32_t round = 0; round < 4; ++round) {
        std::vector<int32_t> table;
        for (uint32_t row = 0; row < kRows; ++row) {
          table.push_back(row % 2 == 0 ? 0 : 1);
          table.push_back(static_cast<int32_t>(behind + round * kRows + row));
        }
        Side::write(steps, table);
        must(pkv_tape_run(appends.get()));
      }
      scene->side.run(page_index == 1, [&] { must(pkv_commit(context, &page)); });
    }
  }
  same_cache(report, cpu, cuda, "offloads beside tapes");
}

// What meets an offload outside a tape waits for it: reads, copies and writes find, or leave, what their order says.
void test_order_after_offload(Report& report, const Side& cpu_side, const Side& cuda_side) {
  SceneParams params;
  params.layers = 4;
  params.kv_heads = 8;
  params.head_dim = 128;
  params.ring_tokens = 1100;
  params.zone_tokens = {3 * PKV_PAGE_TOKENS};
  for (const uint32_t kind : {PKV_MEMORY_MAPPED, PKV_MEMORY_DEVICE}) {
    params.record_kind = kind;
    const SceneData data(params, cpu_side);
    const PlacedScene cpu(cpu_side, data), cuda(cuda_side, data);
    const std::string name = "records of kind " + std::to_string(kind);
    std::vector<uint8_t> want;
    for (uint32_t round = 0; round < 6; ++round) {
      const std::vector<uint8_t> window = full_window(data, 55 + round), other = full_window(data, 70 + round);
      const pkv_page_params page = {cuda.cache.get(), 0, round % 3, 0}, same = {cpu.cache.get(), 0, round % 3, 0};
      Side::write(cpu.window, window);
      must(pkv_offload(cpu_side.context(), &same));
      want = whole(cpu.records, data.page_records);
      const Buffer copy = cuda_side.allocate(want.size());
      const pkv_copy_params to_copy = {{cuda.records.get(), 0}, {copy.get(), 0}, want.size()};
      Side::write(cuda.window, window);
      must(pkv_offload(cuda_side.context(), &page));
      switch (round / 2) {
        case 0: Side::write(cuda.window, other); break;  // after the records were read from it
        case 1: must(pkv_copy(cuda_side.context(), &to_copy)); break;
        default: must(pkv_context_synchronize(cuda_side.context()));
      }
      report.same(want, whole(cuda.records, data.page_records), name + ": records after an offload");
      if (round / 2 == 1) report.same(want, Side::read<uint8_t>(copy, want.size()), name + ": a copy after an offload");
    }
    // Memory that is given back while its page is on the way.
    const pkv_page_params last = {cuda.cache.get(), 0, 0, 0};
    must(pkv_offload(cuda_side.context(), &last));
  }
  report.expect(pkv_context_synchronize(cuda_side.context()) == PKV_OK, "memory to be given back after its offload");
}

// An infinite value in the last but one token of each sequence: only the last two rows may meet it.
void spoil_values(SceneData& data) {
  const SceneParams& p = data.params;
  for (uint32_t slot = 0; slot < p.slots(); ++slot) {
    if (p.ring_used[slot] < 2) continue;
    for (uint32_t head = 0; head < p.heads(); ++head) {
      const size_t row = p.sink_tokens + (p.zone_tokens[slot] + p.ring_used[slot] - 2) % p.ring_tokens;
      const size_t record = (size_t{slot} * p.heads() + head) * p.window_tokens() + row;
      store(p.kv_dtype, &data.window[record * p.record_bytes()], p.head_dim + head % p.head_dim, INFINITY);
    }
  }
}

void test_attend_causal(Report& report, const SceneParams& params, const Side& cpu_side, const Side& cuda_side) {
  SceneData data(params, cpu_side);
  if (params.query_group == 3) spoil_values(data);
  const PlacedScene cpu(cpu_side, data), cuda(cuda_side, data);
  Random random(params.seed + 52);
  const double allowed = 1e-5;  // both widen to f32 and sum in f32
  for (uint32_t slot = 0; slot < params.slots(); ++slot) {
    // The last rows of the sequence, which are still in the ring; some before them are of another place in the step.
    const uint32_t rows = std::min(params.ring_used[slot], 150u), before = 3;
    std::vector<int32_t> table(2 * before, 0);
    for (uint32_t row = 0; row < rows; ++row) {
      table.push_back(static_cast<int32_t>(slot));
      table.push_back(static_cast<int32_t>(params.tokens(slot) - rows + row));
    }
    const uint32_t width = params.query_width();
    const std::vector<float> q = random.normals(size_t{before + rows} * width), begin(q.size(), 7);
    std::vector<std::vector<float>> outs;
    for (const PlacedScene* scene : {&cpu, &cuda, &cuda}) {
      const Buffer steps = scene->side.upload(table), queries = scene->side.upload(q), out = scene->side.upload(begin);
      const auto attend = [&](uint32_t first, uint32_t count) {
        const pkv_attend_causal_params p = {
            scene->cache.get(),        params.layers - 1,    {{steps.get(), 0}, before + rows}, first, count,
            {queries.get(), 0, width}, {out.get(), 0, width}};
        must(pkv_attend_causal(scene->side.context(), &p));
      };
      if (outs.size() == 2 && rows > 1) {  // the third time in two parts
        attend(before, rows / 2);
        attend(before + rows / 2, rows - rows / 2);
      } else {
        attend(before, rows);
      }
      outs.push_back(Side::read<float>(out, q.size()));
    }
    const std::string what = describe(params) + ", slot " + std::to_string(slot);
    for (size_t at = 0; at < q.size(); at += params.head_dim) {
      report.close_vector(&outs[0][at], &outs[1][at], params.head_dim, allowed, what + ": causal attention");
    }
    report.same(outs[1], outs[2], what + ": a row as if alone");
  }
}

}  // namespace

void test_pages(Report& report) {
  const Side cpu(PKV_CPU), cuda(PKV_CUDA);
  for (const uint32_t head_dim : {64u, 128u, 256u}) {
    report.group("append, encode, offload, commit: d " + std::to_string(head_dim), [&] {
      for (const uint32_t dtype : {PKV_DTYPE_F32, PKV_DTYPE_BF16, PKV_DTYPE_F16}) {
        for (const Keys keys : {Keys::isotropic, Keys::ties, Keys::invalid}) {
          SceneParams params;
          params.layers = 2;
          params.kv_heads = 3;
          params.head_dim = head_dim;
          params.kv_dtype = dtype;
          params.keys = keys;
          params.calibrated = keys != Keys::isotropic;
          params.ring_tokens = dtype == PKV_DTYPE_F32 ? 512 : 777;
          params.zone_tokens = {1700, 512};
          params.ring_used = {300, 20};
          params.record_kind = dtype == PKV_DTYPE_F16 ? PKV_MEMORY_DEVICE : PKV_MEMORY_MAPPED;
          params.seed = head_dim + dtype;
          test_page_operators(report, params, cpu, cuda);
        }
      }
    });
  }
  report.group("offload beside tapes", [&] { test_offload_beside_tapes(report, cpu, cuda); });
  report.group("offload, then what meets it", [&] { test_order_after_offload(report, cpu, cuda); });
  for (const uint32_t head_dim : {64u, 128u, 256u}) {
    report.group("attend_causal: d " + std::to_string(head_dim), [&] {
      for (const uint32_t group : {1u, 3u, 4u, 8u}) {
        SceneParams params;
        params.layers = 2;
        params.head_dim = head_dim;
        params.query_group = group;
        params.kv_dtype = group % 3;
        params.keys = group == 4 ? Keys::invalid : Keys::isotropic;
        params.zone_tokens = {0, 1024, 513, 0};
        params.ring_used = {1, 600, 64, 130};
        params.seed = head_dim + group;
        test_attend_causal(report, params, cpu, cuda);
      }
    });
  }
}

void test_quick_pages(Report& report) {
  const Side cpu(PKV_CPU), cuda(PKV_CUDA);
  uint32_t dtype = PKV_DTYPE_F32;
  for (const uint32_t head_dim : {64u, 128u, 256u}) {
    SceneParams params;
    params.kv_heads = 1;
    params.query_group = 3;
    params.head_dim = head_dim;
    params.kv_dtype = dtype++;
    params.keys = Keys::invalid;
    params.ring_tokens = 513;
    params.zone_tokens = {513, 0};
    params.ring_used = {33, 7};
    params.seed = 500 + head_dim;
    report.group("quick: pages and causal attention, " + describe(params), [&] {
      test_page_operators(report, params, cpu, cuda);
      test_attend_causal(report, params, cpu, cuda);
    });
  }
}

}  // namespace conformance
