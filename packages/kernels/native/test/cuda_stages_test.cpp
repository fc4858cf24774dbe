// The stages of a decode step, each compared with the CPU's on the same inputs: where a stage need not be exact, the
// CPU's result is put into the plan before the next one runs.
#include "cuda_comparison.h"

namespace conformance {
namespace {

// One device with everything that a step of one layer takes.
class StepOn {
 public:
  StepOn(const PlacedScene& scene, const PlacedPlan& plan, uint32_t layer, const StepRows& rows)
      : scene_(scene),
        plan_(plan),
        layer_(layer),
        rows_(rows.count),
        width_(scene.data.params.query_width()),
        table_(scene.side.upload(rows.table)),
        queries_(scene.side.upload(queries_of(scene.data, layer, rows))),
        out_(scene.side.upload(std::vector<float>(size_t{rows.count} * width_, 9.0f))) {}

  void probe() const {
    const pkv_probe_params params = {plan_.plan.get(), layer_, step(), {queries_.get(), 0, width_}};
    must(pkv_probe(scene_.side.context(), &params));
  }
  void collide() const { stage(pkv_collide); }
  void select() const { stage(pkv_select); }
  void rerank() const { stage(pkv_rerank); }
  void attend() const {
    const pkv_attend_params params = {
        plan_.plan.get(), layer_, step(), {queries_.get(), 0, width_}, {out_.get(), 0, width_}};
    must(pkv_attend(scene_.side.context(), &params));
  }
  std::vector<float> out() const { return Side::read<float>(out_, size_t{rows_} * width_); }

 private:
  static std::vector<float> queries_of(const SceneData& data, uint32_t layer, const StepRows& rows) {
    const size_t width = data.params.query_width();
    std::vector<float> queries;
    for (uint32_t row = 0; row < rows.count; ++row) {
      const size_t slot = static_cast<size_t>(std::max(rows.table[2 * row], 0));
      const float* const from = &data.queries[(size_t{layer} * data.params.slots() + slot) * width];
      queries.insert(queries.end(), from, from + width);
    }
    return queries;
  }
  pkv_step step() const { return {{table_.get(), 0}, rows_}; }
  void stage(pkv_status (*run)(pkv_context*, const pkv_stage_params*)) const {
    const pkv_stage_params params = {plan_.plan.get(), layer_, step()};
    must(run(scene_.side.context(), &params));
  }

  const PlacedScene& scene_;
  const PlacedPlan& plan_;
  uint32_t layer_, rows_, width_;
  Buffer table_, queries_, out_;
};

void run_case(Report& report, const PlacedScene& cpu, const PlacedScene& cuda, uint32_t layer, const Case& c) {
  const SceneParams& p = cpu.data.params;
  const StepRows rows = step_rows(p);
  const uint32_t longest = std::max(1u, *std::max_element(p.zone_tokens.begin(), p.zone_tokens.end()));
  const PlacedPlan cpu_plan(cpu, c.policy, rows.count, longest), cuda_plan(cuda, c.policy, rows.count, longest);
  for (const PlacedScene* scene : {&cpu, &cuda}) scene->set_budget(c.mode, c.candidates, c.top_k);
  const StepOn on_cpu(cpu, cpu_plan, layer, rows), on_cuda(cuda, cuda_plan, layer, rows);
  Comparison compare(report, cpu.data, c, rows, cpu_plan, cuda_plan, rows.count, longest);
  const auto run = [&](void (StepOn::*verb)() const) {
    (on_cpu.*verb)();
    cuda.side.run(c.as_tape, [&] { (on_cuda.*verb)(); });
  };
  // In mode dense the first four stages have nothing to do, and nothing to compare.
  run(&StepOn::probe);
  if (c.mode != PKV_MODE_DENSE) compare.probe();
  run(&StepOn::collide);
  if (c.mode != PKV_MODE_DENSE) compare.collide();
  run(&StepOn::select);
  if (c.mode != PKV_MODE_DENSE) compare.select();
  run(&StepOn::rerank);
  if (c.mode != PKV_MODE_DENSE) compare.rerank();
  compare.put_selected();
  run(&StepOn::attend);
  compare.attend(on_cpu.out(), on_cuda.out());
}

// The ways through the stages. Few candidates make the choice matter; more candidates than keys, and more K than
// candidates, must give all of them.
void run_cases(Report& report, const SceneParams& params, const Side& cpu_side, const Side& cuda_side) {
  const SceneData data(params, cpu_side);
  const PlacedScene cpu(cpu_side, data), cuda(cuda_side, data);
  const uint32_t longest = std::max(1u, *std::max_element(params.zone_tokens.begin(), params.zone_tokens.end()));
  uint32_t number = 0;
  for (const uint32_t votes : {PKV_VOTES_TIERED, PKV_VOTES_GRADED}) {
    for (const uint32_t group : {PKV_GROUP_MEAN, PKV_GROUP_MAX, PKV_GROUP_SUM}) {
      const uint32_t layer = number % params.layers;
      const bool as_tape = ++number % 2 == 0;
      const Policy policy = {votes, group, longest, 100};
      run_case(report, cpu, cuda, layer, {policy, PKV_MODE_VOTE, std::max(1u, longest / 5), 20, as_tape});
      if (votes == PKV_VOTES_TIERED) continue;
      run_case(report, cpu, cuda, layer, {policy, PKV_MODE_VOTE, longest + 100, 100, as_tape});
      run_case(report, cpu, cuda, layer, {{votes, group, 300, 2048}, PKV_MODE_VOTE, 300, 2048, !as_tape});
      run_case(report, cpu, cuda, layer, {policy, PKV_MODE_SCAN, 0, 37, as_tape});
      if (group == PKV_GROUP_MAX) {
        run_case(report, cpu, cuda, layer, {policy, PKV_MODE_VOTE, 0, 10, as_tape});
        run_case(report, cpu, cuda, layer, {policy, PKV_MODE_VOTE, longest / 3, 0, as_tape});
        run_case(report, cpu, cuda, layer, {policy, PKV_MODE_DENSE, 0, 10, as_tape});
        run_case(report, cpu, cuda, layer, {{votes, group, longest, 100, false}, PKV_MODE_VOTE, longest / 3, 50, as_tape});
      }
    }
  }
}

// Select takes scores that collide did not write, too.
void test_written_scores(Report& report, const Side& cpu_side, const Side& cuda_side) {
  SceneParams params;
  params.zone_tokens = {5000, 0, 1300};
  params.ring_used = {1, 1, 1};
  const SceneData data(params, cpu_side);
  const PlacedScene cpu(cpu_side, data), cuda(cuda_side, data);
  const StepRows rows = step_rows(params);
  const Case c = {{PKV_VOTES_GRADED, PKV_GROUP_MEAN, 1000, 10}, PKV_MODE_VOTE, 900, 10, false};
  const PlacedPlan cpu_plan(cpu, c.policy, rows.count, 5000), cuda_plan(cuda, c.policy, rows.count, 5000);
  Random random(7);
  std::vector<uint16_t> scores(size_t{rows.count} * params.kv_heads * 5000);
  for (uint16_t& score : scores) score = static_cast<uint16_t>(random.below(9) == 0 ? PKV_NO_SCORE : 500 + random.below(300));
  for (const auto& [scene, plan] : {std::pair(&cpu, &cpu_plan), std::pair(&cuda, &cuda_plan)}) {
    scene->set_budget(c.mode, c.candidates, c.top_k);
    plan->set_field(PKV_PLAN_FIELD_SCORES, scores);
    StepOn(*scene, *plan, 0, rows).select();
  }
  Comparison(report, data, c, rows, cpu_plan, cuda_plan, rows.count, 5000).select();
}

// The choice of the top K, whichever way K takes: with the mass, and all queries of a group.
void run_choices(Report& report, const PlacedScene& cpu, const PlacedScene& cuda, uint32_t candidates,
                 std::initializer_list<uint32_t> top_ks) {
  bool as_tape = false;
  for (const uint32_t top_k : top_ks) {
    for (const uint32_t group : {PKV_GROUP_MEAN, PKV_GROUP_MAX}) {
      const Policy policy = {PKV_VOTES_GRADED, group, candidates, top_k};
      run_case(report, cpu, cuda, 0, {policy, PKV_MODE_VOTE, candidates, top_k, as_tape = !as_tape});
    }
  }
}

// So many candidates, and so many alike, that what the choice lists does not fit its list; and a large K.
void test_many_candidates(Report& report, const Side& cpu_side, const Side& cuda_side) {
  SceneParams params;
  params.kv_heads = 1;
  params.head_dim = 128;
  params.query_group = 4;
  params.keys = Keys::ties;
  params.zone_tokens = {20480, 3000};
  params.ring_used = {64, 3};
  params.seed = 8;
  const SceneData data(params, cpu_side);
  const PlacedScene cpu(cpu_side, data), cuda(cuda_side, data);
  for (const uint32_t group : {PKV_GROUP_MEAN, PKV_GROUP_SUM}) {
    const Policy policy = {PKV_VOTES_GRADED, group, 18001, 4096, false};
    run_case(report, cpu, cuda, 0, {policy, PKV_MODE_VOTE, 18000, 4096, true});
    run_case(report, cpu, cuda, 0, {policy, PKV_MODE_SCAN, 0, 2000, false});
    run_case(report, cpu, cuda, 0, {policy, PKV_MODE_VOTE, 2000, 1000, false});
  }
  run_choices(report, cpu, cuda, 18000, {1, 100, 256, 257});
}

// Spans of candidates that a block does not hold together with their tokens, and others that it does not hold at all, nor
// what it saw of them (CompactMemory).
void test_long_spans(Report& report, const Side& cpu_side, const Side& cuda_side) {
  for (const uint32_t slots : {3u, 9u}) {
    for (const Keys keys : {Keys::ties, Keys::isotropic}) {
      SceneParams params;
      params.kv_heads = 8;
      params.query_group = 2;
      params.keys = keys;
      params.zone_tokens.assign(slots, 700);
      params.zone_tokens[1] = slots == 3 ? 24576 : 40000;
      params.ring_used.assign(slots, 30);
      params.seed = 40 + slots;
      const SceneData data(params, cpu_side);
      const PlacedScene cpu(cpu_side, data), cuda(cuda_side, data);
      run_choices(report, cpu, cuda, params.zone_tokens[1] - 576, {37, 256, 300});
    }
  }
}

// One row and KV head: as many spans, and so lists, as there can be.
void test_many_spans(Report& report, const Side& cpu_side, const Side& cuda_side) {
  SceneParams params;
  params.kv_heads = 1;
  params.zone_tokens = {40000};
  params.ring_used = {7};
  params.seed = 50;
  const SceneData data(params, cpu_side);
  const PlacedScene cpu(cpu_side, data), cuda(cuda_side, data);
  run_choices(report, cpu, cuda, 34000, {100});
}

// The same step gives the same bytes, run after run, as a tape or not.
void test_repeats(Report& report, const Side& cpu_side, const Side& cuda_side) {
  SceneParams params;
  params.head_dim = 128;
  params.query_group = 4;
  params.keys = Keys::ties;
  params.zone_tokens = {20480, 700};
  params.ring_used = {64, 3};
  const SceneData data(params, cpu_side);
  const PlacedScene scene(cuda_side, data);
  const StepRows rows = step_rows(params);
  for (const uint32_t group : {PKV_GROUP_MEAN, PKV_GROUP_MAX, PKV_GROUP_SUM}) {
    const PlacedPlan plan(scene, {PKV_VOTES_GRADED, group, 4096, 1024}, rows.count, 20480);
    const StepOn step(scene, plan, 0, rows);
    scene.set_budget(PKV_MODE_VOTE, 2048, 300);
    const auto queue = [&] { step.probe(), step.collide(), step.select(), step.rerank(), step.attend(); };
    const Owned<pkv_tape> tape = cuda_side.record(queue);
    std::vector<float> out;
    std::vector<uint32_t> selected;
    for (int round = 0; round < 30; ++round) {
      if (round % 2 == 0) {
        queue();
      } else {
        must(pkv_tape_run(tape.get()));
      }
      const auto now = step.out();
      const auto keys = plan.field<uint32_t>(PKV_PLAN_FIELD_SELECTED, 1024);
      if (round == 0) out = now, selected = keys;
      report.same(out, now, "attention, round " + std::to_string(round));
      report.same(selected, keys, "selected keys, round " + std::to_string(round));
    }
  }
}

}  // namespace

void test_stages(Report& report) {
  const Side cpu(PKV_CPU), cuda(PKV_CUDA);
  SceneParams base;
  base.kv_heads = 2;
  uint32_t number = 0;
  for (const uint32_t head_dim : {64u, 128u, 256u}) {
    for (const uint32_t group : {1u, 2u, 3u, 4u, 8u}) {
      SceneParams params = base;
      params.layers = 1 + number % 2;
      params.head_dim = head_dim;
      params.query_group = group;
      params.kv_dtype = number % 3;
      params.keys = static_cast<Keys>((number / 2) % 3);
      params.calibrated = number % 4 == 1;
      params.record_kind = number % 2 == 0 ? PKV_MEMORY_MAPPED : PKV_MEMORY_DEVICE;
      params.hot_lines = number % 4 == 0 ? 64 : 0;
      params.sink_tokens = number % 5 == 4 ? 0 : 5;
      params.zone_tokens = {0, 1, 511, 512, 513, 5000};
      params.ring_used = {1, 100, 600, 37, 200, 64};
      params.seed = 100 + number++;
      report.group("stages: " + describe(params), [&] { run_cases(report, params, cpu, cuda); });
    }
  }
  for (const uint32_t batch : {1u, 2u, 8u, 33u}) {
    SceneParams params = base;
    params.head_dim = 128;
    params.query_group = 4;
    params.zone_tokens.clear();
    params.ring_used.clear();
    for (uint32_t slot = 0; slot < batch; ++slot) {
      params.zone_tokens.push_back(batch == 1 ? 40000 : 512 * (slot % 5) + (slot % 3 == 2 ? 77 : 0));
      params.ring_used.push_back(1 + slot * 17 % 600);
    }
    params.seed = 200 + batch;
    report.group("stages: " + describe(params), [&] { run_cases(report, params, cpu, cuda); });
  }
  report.group("stages: scores from elsewhere", [&] { test_written_scores(report, cpu, cuda); });
  report.group("stages: many candidates", [&] { test_many_candidates(report, cpu, cuda); });
  report.group("stages: long spans of candidates", [&] { test_long_spans(report, cpu, cuda); });
  report.group("stages: the same bytes run after run", [&] { test_repeats(report, cpu, cuda); });
}

void test_quick(Report& report) {
  const Side cpu(PKV_CPU), cuda(PKV_CUDA);
  uint32_t number = 0;
  for (const uint32_t head_dim : {64u, 128u, 256u}) {
    for (const uint32_t group : {1u, 3u, 4u}) {
      SceneParams params;
      params.kv_heads = 1 + number % 2;
      params.head_dim = head_dim;
      params.query_group = group;
      params.kv_dtype = number % 3;
      params.keys = static_cast<Keys>(number % 3);
      params.record_kind = number % 2 == 0 ? PKV_MEMORY_MAPPED : PKV_MEMORY_DEVICE;
      params.hot_lines = number % 2 == 0 ? 16 : 0;
      params.sink_tokens = number % 2 == 0 ? 5 : 0;
      params.zone_tokens = {0, 1, 513};
      params.ring_used = {1, 33, 127};
      params.seed = 300 + number++;
      report.group("quick: " + describe(params), [&] { run_cases(report, params, cpu, cuda); });
    }
  }
  report.group("quick: many spans of candidates", [&] { test_many_spans(report, cpu, cuda); });
  test_quick_device(report);
  test_quick_pages(report);
  test_quick_dense(report);
}

}  // namespace conformance
