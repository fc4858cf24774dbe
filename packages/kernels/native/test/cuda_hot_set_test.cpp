// The hot set: whatever lies in it, attend gives the same bytes as without it, and counts as many hits as a model of the rules
// in cuda/hot_set.cuh. Steps share most of their keys with the step before; tables change between runs of one tape.
#include <algorithm>
#include <map>
#include <utility>

#include "cuda_report.h"
#include "cuda_scene.h"

namespace conformance {
namespace {

// The tags of one slot, layer and KV head.
class Model {
 public:
  explicit Model(uint32_t lines) : tags_(lines, 0) {}

  // The hits of a step that wants `keys`, ascending.
  int32_t step(const std::vector<uint32_t>& keys) {
    const uint32_t sets = static_cast<uint32_t>(tags_.size()) / kWays;
    std::vector<uint32_t> used(sets, 0), misses;
    int32_t hits = 0;
    for (size_t i = 0; i < std::min(keys.size(), kMostKeys); ++i) {
      const uint32_t set = keys[i] % sets;
      const uint32_t* const tags = &tags_[set * kWays];
      const auto way = static_cast<uint32_t>(std::find(tags, tags + kWays, keys[i] + 1) - tags);
      if (way == kWays) {
        misses.push_back(keys[i]);
      } else {
        used[set] |= 1u << way;
        ++hits;
      }
    }
    for (const uint32_t key : misses) {
      const uint32_t set = key % sets;
      for (uint32_t turn = 0; turn < kWays; ++turn) {
        const uint32_t way = (key / sets + turn) % kWays;
        if ((used[set] >> way & 1) != 0) continue;
        used[set] |= 1u << way;
        tags_[set * kWays + way] = key + 1;
        break;
      }
    }
    return hits;
  }

 private:
  static constexpr uint32_t kWays = 4;
  static constexpr size_t kMostKeys = 4096;
  std::vector<uint32_t> tags_;
};

// One cache with a plan and what a step of attend takes, as a tape that is kept.
class Attending {
 public:
  Attending(const Side& side, const SceneData& data, uint32_t max_rows, uint32_t most_keys)
      : scene_(side, data),
        plan_(scene_, {PKV_VOTES_GRADED, PKV_GROUP_MEAN, most_keys, most_keys}, max_rows, most_zone(data.params)),
        rows_(max_rows),
        most_keys_(most_keys),
        table_(side.allocate(size_t{max_rows} * 8)),
        queries_(side.allocate(size_t{max_rows} * data.params.query_width() * 4)),
        out_(side.allocate(size_t{max_rows} * data.params.query_width() * 4)) {
    const SceneParams& p = data.params;
    scene_.set_budget(PKV_MODE_VOTE, most_keys, most_keys);
    tape_ = side.record([&] {
      const pkv_attend_params attend = {plan_.plan.get(),
                                        p.layers - 1,
                                        {{table_.get(), 0}, rows_},
                                        {queries_.get(), 0, p.query_width()},
                                        {out_.get(), 0, p.query_width()}};
      must(pkv_attend(side.context(), &attend));
    });
  }

  const PlacedScene& scene() const { return scene_; }
  // keys: [rows, kv_heads], ascending.
  std::vector<float> step(const std::vector<int32_t>& table, const std::vector<std::vector<uint32_t>>& keys,
                          const std::vector<float>& queries) const {
    Side::write(table_, table);
    Side::write(queries_, queries);
    Side::write(out_, std::vector<float>(queries.size(), 9.0f));
    std::vector<uint32_t> selected(keys.size() * most_keys_, 0xffffffffu);
    std::vector<int32_t> counts;
    for (size_t entry = 0; entry < keys.size(); ++entry) {
      std::copy(keys[entry].begin(), keys[entry].end(), selected.begin() + static_cast<ptrdiff_t>(entry * most_keys_));
      counts.push_back(static_cast<int32_t>(keys[entry].size()));
    }
    plan_.set_field(PKV_PLAN_FIELD_SELECTED, selected);
    Side::write(plan_.workspace, counts, of_layer(PKV_PLAN_FIELD_SELECTED_COUNT));
    must(pkv_tape_run(tape_.get()));
    return Side::read<float>(out_, queries.size());
  }
  // [rows, kv_heads]
  std::vector<int32_t> hits() const {
    const size_t count = size_t{rows_} * scene_.data.params.kv_heads;
    return Side::read<int32_t>(plan_.workspace, count, of_layer(PKV_PLAN_FIELD_HOT_HITS));
  }

 private:
  static uint32_t most_zone(const SceneParams& p) {
    return std::max(1u, *std::max_element(p.zone_tokens.begin(), p.zone_tokens.end()));
  }
  uint64_t of_layer(uint32_t field) const {
    const SceneParams& p = scene_.data.params;
    return plan_.offset_of(field) + uint64_t{p.layers - 1} * rows_ * p.kv_heads * 4;
  }

  PlacedScene scene_;
  PlacedPlan plan_;
  uint32_t rows_, most_keys_;
  Buffer table_, queries_, out_;
  Owned<pkv_tape> tape_;
};

// About `count` keys below `zone_tokens`, nine tenths of them from `before`.
std::vector<uint32_t> next_keys(Random& random, const std::vector<uint32_t>& before, uint32_t zone_tokens, uint32_t count) {
  std::vector<uint32_t> keys;
  for (const uint32_t key : before) {
    if (random.below(10) < 9 && key < zone_tokens) keys.push_back(key);
  }
  while (zone_tokens > 0 && keys.size() < count) keys.push_back(random.below(zone_tokens));
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  if (keys.size() > count) keys.resize(count);
  return keys;
}

// Runs the same steps with and without a hot set. After some of them the tables change as a memory manager changes them.
class Run {
 public:
  Run(Report& report, const SceneData& data, const Side& side, uint32_t rows, uint32_t most_keys)
      : report_(report),
        data_(data),
        plain_data_(without_hot_set(data)),
        with_(side, data, rows, most_keys),
        without_(side, plain_data_, rows, most_keys),
        most_keys_(most_keys),
        zone_tokens_(data.zone_tokens),
        random_(data.params.seed + 70) {}

  void steps(uint32_t count, const std::vector<uint32_t>& slots) {
    for (uint32_t number = 0; number < count; ++number) step(slots);
  }
  // A slot of another sequence: its tags are cleared, its pages are those of `parent`.
  void give_slot(uint32_t slot, uint32_t parent) {
    const SceneParams& p = data_.params;
    const size_t lines = size_t{p.heads()} * p.hot_lines;
    Side::write(with_.scene().hot_tags, std::vector<uint32_t>(lines, 0), slot * lines * 4);
    const auto first = data_.page_table.begin() + static_cast<ptrdiff_t>(size_t{parent} * p.max_pages());
    const std::vector<uint32_t> pages(first, first + p.max_pages());
    for (const PlacedScene* scene : {&with_.scene(), &without_.scene()}) {
      Side::write(scene->page_table, pages, uint64_t{slot} * p.max_pages() * 4);
    }
    set_zone(slot, static_cast<uint32_t>(data_.zone_tokens[parent]));
    for (uint32_t head = 0; head < p.kv_heads; ++head) models_.erase({slot, head});
  }
  void set_zone(uint32_t slot, uint32_t tokens) {
    zone_tokens_[slot] = static_cast<int32_t>(tokens);
    for (const PlacedScene* scene : {&with_.scene(), &without_.scene()}) Side::write(scene->zone_tokens, zone_tokens_);
  }

 private:
  static SceneData without_hot_set(const SceneData& data) {
    SceneData plain = data;
    plain.params.hot_lines = 0;
    return plain;
  }

  void step(const std::vector<uint32_t>& slots) {
    const SceneParams& p = data_.params;
    std::vector<int32_t> table, want_hits;
    std::vector<std::vector<uint32_t>> keys;
    for (size_t row = 0; row < slots.size(); ++row) {
      const uint32_t slot = slots[row];
      const bool first = std::find(slots.begin(), slots.begin() + static_cast<ptrdiff_t>(row), slot) ==
                         slots.begin() + static_cast<ptrdiff_t>(row);
      const uint32_t zone = static_cast<uint32_t>(zone_tokens_[slot]);
      // A later row of a slot stands at an earlier position.
      table.push_back(static_cast<int32_t>(slot));
      table.push_back(static_cast<int32_t>(p.sink_tokens + zone + p.ring_used[slot] - (first ? 1 : 2)));
      for (uint32_t head = 0; head < p.kv_heads; ++head) {
        std::vector<uint32_t>& before = keys_[{row, head}];
        before = next_keys(random_, before, zone, most_keys_ - random_.below(1 + most_keys_ / 4));
        keys.push_back(before);
        Model& model = models_.try_emplace({slot, head}, p.hot_lines).first->second;
        want_hits.push_back(first ? model.step(before) : 0);
      }
    }
    const std::vector<float> queries = random_.normals(slots.size() * p.query_width());
    report_.same(without_.step(table, keys, queries), with_.step(table, keys, queries), describe(p) + ": attention");
    report_.same(want_hits, with_.hits(), describe(p) + ": hits");
    report_.same(std::vector<int32_t>(want_hits.size(), 0), without_.hits(), describe(p) + ": hits without a hot set");
  }

  Report& report_;
  const SceneData& data_;
  SceneData plain_data_;
  Attending with_, without_;
  uint32_t most_keys_;
  std::vector<int32_t> zone_tokens_;
  Random random_;
  std::map<std::pair<size_t, uint32_t>, std::vector<uint32_t>> keys_;  // of the step before, by row and KV head
  std::map<std::pair<uint32_t, uint32_t>, Model> models_;              // by slot and KV head
};

}  // namespace

void test_hot_set(Report& report) {
  const Side cpu(PKV_CPU), cuda(PKV_CUDA);
  uint32_t number = 0;
  for (const uint32_t head_dim : {64u, 128u, 256u}) {
    for (const uint32_t lines : {4u, 64u, 1024u}) {
      SceneParams params;
      params.layers = 1 + number % 2;
      params.head_dim = head_dim;
      params.query_group = 1 + number % 5;
      params.kv_dtype = number % 3;
      params.hot_lines = lines;
      params.zone_tokens = {3000, 1024, 0, 2048};
      params.ring_used = {100, 37, 8, 600};
      params.seed = 500 + number++;
      const SceneData data(params, cpu);
      report.group("hot set: " + std::to_string(lines) + " lines, " + describe(params), [&] {
        Run run(report, data, cuda, 4, 200);
        run.steps(6, {0, 1, 2, 3});
        run.steps(4, {3, 3, 1, 3});  // the later rows of a slot go without
        run.give_slot(1, 3);         // another sequence, then a fork
        run.give_slot(2, 0);
        run.steps(5, {0, 1, 2, 3});
        run.set_zone(0, 512);  // a slot given back, and a sequence that grows in it under the same tape
        run.give_slot(0, 1);
        for (const uint32_t zone : {512u, 1024u, 2048u}) {
          run.set_zone(3, zone);
          run.steps(3, {3, 2, 1, 0});
        }
      });
    }
  }
  SceneParams params;
  params.kv_heads = 1;
  params.kv_dtype = PKV_DTYPE_F16;
  params.hot_lines = 8192;
  params.zone_tokens = {12000};
  params.ring_used = {50};
  params.seed = 550;
  const SceneData data(params, cpu);
  report.group("hot set: more keys than it takes, " + describe(params), [&] {
    Run run(report, data, cuda, 1, 5000);
    run.steps(6, {0});
  });
}

}  // namespace conformance
