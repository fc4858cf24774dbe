// Whole decode steps of all layers while sequences grow: tokens are appended, a full ring gives its oldest page away.
// Three runs on the same tokens: the CPU, the GPU operator by operator, and the GPU with one tape that is kept all the
// while. Some thousand steps are compared each; of ten thousand every sixteenth, and each that follows a flush.
#include <algorithm>

#include "cuda_report.h"
#include "cuda_scene.h"

namespace conformance {
namespace {

// Sequences of given final lengths, of which nothing is in the cache yet. policy.max_candidates: the longest zone.
class Growing {
 public:
  Growing(const Side& side, const SceneData& tokens, const SceneData& empty, const Policy& policy, bool tape)
      : data_(tokens),
        scene_(side, empty),
        plan_(scene_, policy, tokens.params.slots(), policy.max_candidates),
        uses_tape_(tape) {
    const SceneParams& p = data_.params;
    const size_t slots = p.slots();
    held_.assign(slots, 0);
    zone_.assign(slots, 0);
    table_ = side.allocate(slots * 8);
    for (uint32_t layer = 0; layer < p.layers; ++layer) {
      k_.push_back(side.allocate(slots * kv_width() * 4));
      v_.push_back(side.allocate(slots * kv_width() * 4));
      const float* const q = &data_.queries[layer * slots * p.query_width()];
      q_.push_back(side.upload(std::vector<float>(q, q + slots * p.query_width())));
      out_.push_back(side.allocate(slots * p.query_width() * 4));
    }
    set_budget();
  }

  uint32_t held(uint32_t slot) const { return held_[slot]; }
  uint32_t pages() const {
    uint32_t pages = 0;
    for (const uint32_t tokens : zone_) pages += tokens / PKV_PAGE_TOKENS;
    return pages;
  }

  // Whether a slot gives a page away before its next token.
  bool flush_is_due() const {
    for (uint32_t slot = 0; slot < data_.params.slots(); ++slot) {
      if (is_full(slot) && held_[slot] < data_.params.tokens(slot)) return true;
    }
    return false;
  }
  // Everything that flushes have written: summaries, records, counts of ids and of invalid keys, zones.
  std::vector<uint8_t> sealed() const {
    const SceneData& like = scene_.data;
    std::vector<uint8_t> all;
    const auto add = [&](const Buffer& buffer, size_t bytes) {
      const std::vector<uint8_t> part = Side::read<uint8_t>(buffer, bytes);
      all.insert(all.end(), part.begin(), part.end());
    };
    add(scene_.summaries, like.page_summaries.size());
    add(scene_.records, like.page_records.size());
    add(scene_.id_counts, like.id_counts.size() * 4);
    add(scene_.invalid_keys, like.invalid_keys.size() * 4);
    add(scene_.zone_tokens, like.zone_tokens.size() * 4);
    return all;
  }

  // One token of every slot; slots that are at their end are skipped. Where nobody looks, the attention is not read,
  // nor, without a tape, computed. Gives [layers, slots, query_heads, head_dim], or nothing.
  std::vector<float> decode(bool look) {
    const SceneParams& p = data_.params;
    std::vector<int32_t> table;
    for (uint32_t slot = 0; slot < p.slots(); ++slot) {
      const bool ended = held_[slot] == p.tokens(slot);
      if (!ended) flush_when_full(slot);
      table.push_back(ended ? -1 : static_cast<int32_t>(slot));
      table.push_back(static_cast<int32_t>(held_[slot]));
    }
    Side::write(table_, table);
    for (uint32_t layer = 0; layer < p.layers; ++layer) {
      Side::write(k_[layer], token_values(layer, table, 0));
      Side::write(v_[layer], token_values(layer, table, 1));
    }
    if (uses_tape_) {
      if (!tape_) tape_ = scene_.side.record([&] { queue(true); });
      must(pkv_tape_run(tape_.get()));
    } else {
      queue(look);
    }
    std::vector<float> out;
    for (uint32_t layer = 0; look && layer < p.layers; ++layer) {
      const auto part = Side::read<float>(out_[layer], size_t{p.slots()} * p.query_width());
      out.insert(out.end(), part.begin(), part.end());
    }
    for (uint32_t slot = 0; slot < p.slots(); ++slot) held_[slot] += table[2 * slot] >= 0 ? 1 : 0;
    return out;
  }

 private:
  size_t kv_width() const { return size_t{data_.params.kv_heads} * data_.params.head_dim; }

  std::vector<float> token_values(uint32_t layer, const std::vector<int32_t>& table, uint32_t part) const {
    const SceneParams& p = data_.params;
    std::vector<float> values(p.slots() * kv_width());
    for (uint32_t slot = 0; slot < p.slots(); ++slot) {
      if (table[2 * slot] < 0) continue;
      for (uint32_t head = 0; head < p.kv_heads; ++head) {
        const uint8_t* const record = data_.record(slot, layer * p.kv_heads + head, held_[slot]);
        for (uint32_t j = 0; j < p.head_dim; ++j) {
          values[slot * kv_width() + head * p.head_dim + j] = load(p.kv_dtype, record, part * p.head_dim + j);
        }
      }
    }
    return values;
  }
  void queue(bool with_attention) const {
    const SceneParams& p = data_.params;
    pkv_context* const context = scene_.side.context();
    const pkv_step step = {{table_.get(), 0}, p.slots()};
    for (uint32_t layer = 0; layer < p.layers; ++layer) {
      const pkv_rows q = {q_[layer].get(), 0, p.query_width()}, out = {out_[layer].get(), 0, p.query_width()};
      const pkv_append_params append = {
          scene_.cache.get(), layer, step, {k_[layer].get(), 0, kv_width()}, {v_[layer].get(), 0, kv_width()}};
      const pkv_probe_params probe = {plan_.plan.get(), layer, step, q};
      const pkv_stage_params stage = {plan_.plan.get(), layer, step};
      const pkv_attend_params attend = {plan_.plan.get(), layer, step, q, out};
      must(pkv_append(context, &append));
      if (!with_attention) continue;
      must(pkv_probe(context, &probe));
      must(pkv_collide(context, &stage));
      must(pkv_select(context, &stage));
      must(pkv_rerank(context, &stage));
      must(pkv_attend(context, &attend));
    }
  }
  bool is_full(uint32_t slot) const {
    const SceneParams& p = data_.params;
    return held_[slot] == p.sink_tokens + zone_[slot] + p.ring_tokens;
  }
  void flush_when_full(uint32_t slot) {
    if (!is_full(slot)) return;
    const uint32_t page_index = zone_[slot] / PKV_PAGE_TOKENS;
    const uint32_t page_id = scene_.data.page_table[size_t{slot} * scene_.data.params.max_pages() + page_index];
    const pkv_page_params page = {scene_.cache.get(), slot, page_index, page_id};
    must(pkv_encode(scene_.side.context(), &page));
    must(pkv_offload(scene_.side.context(), &page));
    must(pkv_commit(scene_.side.context(), &page));
    zone_[slot] += PKV_PAGE_TOKENS;
    set_budget();
  }
  void set_budget() const { scene_.set_budget(PKV_MODE_VOTE, 200, 40); }

  const SceneData& data_;
  PlacedScene scene_;
  PlacedPlan plan_;
  bool uses_tape_;
  std::vector<uint32_t> held_, zone_;
  Buffer table_;
  std::vector<Buffer> k_, v_, q_, out_;
  Owned<pkv_tape> tape_;
};

// Before each token but the first ones a full ring gives a page away.
uint32_t pages_given_away(const SceneParams& params) {
  uint32_t pages = 0;
  for (const uint32_t tokens : params.ring_used) {
    if (tokens > params.ring_tokens) pages += (tokens - params.ring_tokens - 1) / PKV_PAGE_TOKENS + 1;
  }
  return pages;
}

// params.ring_used: the tokens of each sequence behind its sink. Compares steps whose number is a multiple of `every`.
void test_growth(Report& report, const SceneParams& params, const Policy& policy, uint32_t every, const Side& cpu_side,
                 const Side& cuda_side) {
  const std::vector<uint32_t>& lengths = params.ring_used;
  SceneParams empty_params = params;
  empty_params.ring_used.assign(lengths.size(), 0);
  // Room for the pages that the longest sequence gives away; the zones start out empty.
  empty_params.zone_tokens.assign(lengths.size(), policy.max_candidates);
  SceneData empty(empty_params, cpu_side);
  std::fill(empty.zone_tokens.begin(), empty.zone_tokens.end(), 0);
  std::fill(empty.id_counts.begin(), empty.id_counts.end(), 0u);
  std::fill(empty.invalid_keys.begin(), empty.invalid_keys.end(), 0u);
  std::fill(empty.window.begin(), empty.window.end(), uint8_t{0xff});
  SceneParams token_params = params;
  token_params.ring_tokens = *std::max_element(lengths.begin(), lengths.end());
  SceneData tokens(token_params, cpu_side);
  tokens.params.ring_tokens = params.ring_tokens;

  Growing cpu(cpu_side, tokens, empty, policy, false), cuda(cuda_side, tokens, empty, policy, false),
      tape(cuda_side, tokens, empty, policy, true);
  const double allowed = params.kv_dtype == PKV_DTYPE_F32 ? 1e-4 : 2e-3;
  size_t strays = 0, vectors = 0;
  while (cpu.held(0) < params.sink_tokens + lengths[0]) {
    const bool look = cpu.held(0) % every == 0 || cpu.flush_is_due();
    const std::vector<float> want = cpu.decode(look), got = cuda.decode(look), of_tape = tape.decode(look);
    if (!look) continue;
    report.same(got, of_tape, "a step of the tape as without it");
    for (size_t at = 0; at < want.size(); at += params.head_dim, ++vectors) {
      double squares = 0, differences = 0;
      for (size_t j = at; j < at + params.head_dim; ++j) {
        squares += static_cast<double>(want[j]) * want[j];
        differences += (static_cast<double>(got[j]) - want[j]) * (static_cast<double>(got[j]) - want[j]);
      }
      if (!(differences <= allowed * allowed * squares)) ++strays;
    }
  }
  // Where two keys are as good as each other the devices may choose differently: that must stay a rarity.
  report.expect(strays * 1000 <= vectors,
                "steps close to the CPU's; " + std::to_string(strays) + " of " + std::to_string(vectors) + " are not");
  const uint32_t pages = pages_given_away(params);
  report.expect(cpu.pages() == pages && tape.pages() == pages, "pages to have been flushed on the way");
  const std::vector<uint8_t> sealed = cpu.sealed();
  report.same(sealed, cuda.sealed(), "what the flushes wrote");
  report.same(sealed, tape.sealed(), "what the flushes wrote beside the tape");
}

}  // namespace

void test_decode(Report& report) {
  const Side cpu(PKV_CPU), cuda(PKV_CUDA);
  const struct {
    uint32_t head_dim, query_group, dtype, votes, group;
    std::vector<uint32_t> lengths;
    uint32_t every;
  } cases[] = {
      {64, 2, PKV_DTYPE_F32, PKV_VOTES_TIERED, PKV_GROUP_MEAN, {1900, 640, 5}, 1},
      {128, 4, PKV_DTYPE_BF16, PKV_VOTES_GRADED, PKV_GROUP_MAX, {1900, 640, 5}, 1},
      {256, 1, PKV_DTYPE_F16, PKV_VOTES_GRADED, PKV_GROUP_SUM, {1900, 640, 5}, 1},
      {128, 4, PKV_DTYPE_BF16, PKV_VOTES_GRADED, PKV_GROUP_SUM, {10000, 1200}, 16},
  };
  uint32_t number = 0;
  for (const auto& c : cases) {
    SceneParams params;
    params.layers = 2;
    params.ring_tokens = 600;
    params.zone_tokens.assign(c.lengths.size(), 0);
    params.ring_used = c.lengths;  // where all tokens of a sequence are drawn
    params.head_dim = c.head_dim;
    params.query_group = c.query_group;
    params.kv_dtype = c.dtype;
    params.calibrated = number == 1;
    params.seed = 300 + number++;
    const uint32_t longest = c.lengths[0], room = (longest + PKV_PAGE_TOKENS - 1) / PKV_PAGE_TOKENS * PKV_PAGE_TOKENS;
    report.group("decode: " + std::to_string(longest) + " steps with flushes, " + describe(params), [&] {
      test_growth(report, params, {c.votes, c.group, room, 100}, c.every, cpu, cuda);
    });
  }
}

}  // namespace conformance
