// A window of more than 4 GiB: slots on both sides of byte 2^31 and byte 2^32, appended, made into pages and attended.
#include "cuda_report.h"
#include "cuda_scene.h"

namespace conformance {
namespace {

constexpr uint32_t kTokens = 600;  // of each slot that is used: a page and what is left in the ring

// Slots of 128 MiB and 4 KiB each: slot 16 begins behind byte 2^31, slot 32 behind byte 2^32, the ones before them
// reach there.
SceneParams far_params() {
  SceneParams params;
  params.head_dim = 256;
  params.query_group = 1;
  params.kv_dtype = PKV_DTYPE_F32;
  params.sink_tokens = 1;
  params.ring_tokens = 1 << 15;
  params.zone_tokens.assign(34, 0);
  params.ring_used.assign(34, 0);
  return params;
}
const std::vector<uint32_t> far_slots = {0, 15, 16, 31, 32, 33};

// Appends the tokens of the used slots, seals a page of each, attends from the last position. Gives what there is to
// compare.
struct Outcome {
  std::vector<std::vector<uint8_t>> windows;  // by used slot and KV head: the first rows
  std::vector<uint8_t> summaries, records;
  std::vector<float> out;
};

Outcome run_far(const Side& side, const SceneData& codec, const std::vector<float>& k, const std::vector<float>& v,
                const std::vector<float>& q) {
  const SceneParams& p = codec.params;
  const uint32_t used = static_cast<uint32_t>(far_slots.size()), kv_width = p.kv_heads * p.head_dim;
  const size_t window_bytes = size_t{p.slots()} * p.heads() * p.window_tokens() * p.record_bytes();
  const Buffer window = side.allocate(window_bytes), zones = side.allocate(p.slots() * 4),
               invalid = side.allocate(p.slots() * p.heads() * 4);
  const Buffer table = side.allocate(p.page_capacity() * 4), calibration = side.upload(codec.calibration);
  const Buffer summaries = side.allocate(used * p.page_summary_bytes()),
               records = side.allocate(used * p.page_record_bytes(), PKV_MEMORY_MAPPED);
  std::vector<int32_t> budgets(size_t{p.slots()} * PKV_BUDGET_FIELDS, 0);
  for (size_t at = PKV_BUDGET_MODE; at < budgets.size(); at += PKV_BUDGET_FIELDS) budgets[at] = PKV_MODE_DENSE;
  const Buffer budget = side.upload(budgets);
  std::vector<uint64_t> addresses(PKV_PAGE_ADDRESS_FIELDS * p.page_capacity());
  for (uint32_t page = 0; page < used; ++page) {
    uint64_t* const address = &addresses[PKV_PAGE_ADDRESS_FIELDS * page];
    address[PKV_PAGE_ADDRESS_SUMMARY] = Side::address(summaries) + page * p.page_summary_bytes();
    address[PKV_PAGE_ADDRESS_RECORDS] = Side::address(records) + page * p.page_record_bytes();
    address[PKV_PAGE_ADDRESS_RECORD_LAYER_BYTES] = p.layer_record_bytes();
  }
  const Buffer page_address = side.upload(addresses);
  pkv_cache_params params = cache_params(p, codec);
  params.zone_tokens.buffer = zones.get();
  params.page_table.buffer = table.get();
  params.page_address.buffer = page_address.get();
  params.window.buffer = window.get();
  params.invalid_keys.buffer = invalid.get();
  params.budget.buffer = budget.get();
  params.calibration.buffer = calibration.get();
  pkv_cache* created = nullptr;
  must(pkv_cache_create(side.context(), &params, &created));
  const Owned<pkv_cache> cache(created);
  const pkv_plan_params plan_params = {cache.get(), used, PKV_PAGE_TOKENS, 64, 16, PKV_VOTES_GRADED, PKV_GROUP_MAX, 0};
  pkv_plan* created_plan = nullptr;
  must(pkv_plan_create(side.context(), &plan_params, &created_plan));
  const Owned<pkv_plan> plan(created_plan);

  std::vector<int32_t> steps, last;
  for (const uint32_t slot : far_slots) {
    for (uint32_t position = 0; position < kTokens; ++position)
      steps.insert(steps.end(), {static_cast<int32_t>(slot), static_cast<int32_t>(position)});
    last.insert(last.end(), {static_cast<int32_t>(slot), static_cast<int32_t>(kTokens - 1)});
  }
  const Buffer step_table = side.upload(steps), last_table = side.upload(last), keys = side.upload(k),
               values = side.upload(v);
  const Buffer queries = side.upload(q), out = side.allocate(q.size() * 4);
  const pkv_append_params append = {
      cache.get(), 0, {{step_table.get(), 0}, used * kTokens}, {keys.get(), 0, kv_width}, {values.get(), 0, kv_width}};
  must(pkv_append(side.context(), &append));
  for (uint32_t page = 0; page < used; ++page) {
    Side::write(table, std::vector<uint32_t>{page}, uint64_t{far_slots[page]} * p.max_pages() * 4);
    const pkv_page_params seal = {cache.get(), far_slots[page], 0, page};
    must(pkv_encode(side.context(), &seal));
    must(pkv_offload(side.context(), &seal));
    must(pkv_commit(side.context(), &seal));
  }
  const pkv_attend_params attend = {plan.get(),
                                    0,
                                    {{last_table.get(), 0}, used},
                                    {queries.get(), 0, p.query_width()},
                                    {out.get(), 0, p.query_width()}};
  must(pkv_attend(side.context(), &attend));

  Outcome outcome;
  for (const uint32_t slot : far_slots) {
    for (uint32_t head = 0; head < p.heads(); ++head) {
      const uint64_t offset = (uint64_t{slot} * p.heads() + head) * p.window_tokens() * p.record_bytes();
      outcome.windows.push_back(Side::read<uint8_t>(window, kTokens * p.record_bytes(), offset));
    }
  }
  outcome.summaries = Side::read<uint8_t>(summaries, used * p.page_summary_bytes());
  outcome.records = Side::read<uint8_t>(records, used * p.page_record_bytes());
  outcome.out = Side::read<float>(out, q.size());
  return outcome;
}

void test_offsets(Report& report) {
  const Side cpu(PKV_CPU), cuda(PKV_CUDA);
  SceneParams drawn = far_params();
  drawn.zone_tokens = {0};
  drawn.ring_used = {1};
  drawn.ring_tokens = 512;
  SceneData codec(drawn, cpu);
  codec.params = far_params();
  Random random(400);
  const size_t rows = far_slots.size() * kTokens, width = codec.params.kv_heads * codec.params.head_dim;
  const std::vector<float> k = random.normals(rows * width), v = random.normals(rows * width);
  const std::vector<float> q = random.normals(far_slots.size() * codec.params.query_width());
  const Outcome want = run_far(cpu, codec, k, v, q), got = run_far(cuda, codec, k, v, q);
  for (size_t i = 0; i < want.windows.size(); ++i)
    report.same(want.windows[i], got.windows[i],
                "window of slot " + std::to_string(far_slots[i / codec.params.heads()]));
  report.same(want.summaries, got.summaries, "summaries");
  report.same(want.records, got.records, "records");
  for (size_t at = 0; at < q.size(); at += codec.params.head_dim)
    report.close_vector(&want.out[at], &got.out[at], codec.params.head_dim, 1e-5, "attention");
}

}  // namespace

void test_far(Report& report) {
  report.group("offsets on both sides of 2^31 and 2^32 bytes", [&] { test_offsets(report); });
}

}  // namespace conformance
