#include "cuda_scene.h"

#include <algorithm>
#include <cstdio>

namespace conformance {

uint32_t SceneParams::max_pages() const {
  const uint32_t longest = *std::max_element(zone_tokens.begin(), zone_tokens.end());
  return (longest + PKV_PAGE_TOKENS - 1) / PKV_PAGE_TOKENS + 1;
}

std::string describe(const SceneParams& p) {
  const char* const keys[] = {"isotropic", "ties", "invalid"};
  char text[120];
  std::snprintf(text, sizeof text, "d %u, group %u, %s, batch %u, %s%s%s", p.head_dim, p.query_group,
                dtype_name(p.kv_dtype), p.slots(), keys[static_cast<int>(p.keys)], p.calibrated ? ", calibrated" : "",
                p.hot_lines > 0 ? ", hot set" : "");
  return text;
}

SceneData::SceneData(const SceneParams& p, const Side& cpu) : params(p) {
  Random random(p.seed);
  centres = {0.0425f, 0.1280f, 0.2152f, 0.3053f, 0.4003f, 0.5030f, 0.6193f, 0.7648f};
  thresholds = {0.0853f, 0.1716f, 0.2603f, 0.3528f, 0.4516f, 0.5612f, 0.6921f};
  for (uint32_t j = 0; j < p.head_dim; ++j) signs.push_back(random.below(2) == 0 ? 1.0f : -1.0f);
  for (uint32_t i = 0; i < p.heads() * 2 * p.head_dim; ++i) {
    const bool balance = i / p.head_dim % 2 == 1;
    calibration.push_back(balance ? (p.calibrated ? 0.5f + 1.5f * random.uniform() : 1.0f)
                                  : (p.calibrated ? random.normal() : 0.0f));
  }
  for (const uint32_t tokens : p.zone_tokens) zone_tokens.push_back(static_cast<int32_t>(tokens));
  draw(random);
  lay_pages(random);
  summarize(cpu);
  lay_window();
}

void SceneData::draw(Random& random) {
  const SceneParams& p = params;
  const uint32_t d = p.head_dim;
  for (uint32_t slot = 0; slot < p.slots(); ++slot) {
    std::vector<uint8_t> bytes(size_t{p.heads()} * p.tokens(slot) * p.record_bytes());
    for (uint32_t head = 0; head < p.heads(); ++head) {
      const std::vector<float> copies = random.normals(5 * d);
      for (uint32_t token = 0; token < p.tokens(slot); ++token) {
        uint8_t* const to = bytes.data() + (size_t{head} * p.tokens(slot) + token) * p.record_bytes();
        const size_t copy = size_t{random.below(5)} * d;
        for (uint32_t j = 0; j < d; ++j) {
          float key = p.keys == Keys::ties ? copies[copy + j] : random.normal();
          if (p.keys == Keys::invalid && token % 7 == 3) key = 0;
          if (p.keys == Keys::invalid && token % 17 == 5) key *= 1e-8f;
          if (p.keys == Keys::invalid && token % 11 == 4 && j == 1) key = NAN;
          if (p.keys == Keys::invalid && token % 13 == 6 && j == 2) key = -INFINITY;
          store(p.kv_dtype, to, j, key);
          store(p.kv_dtype, to, d + j, random.normal());
        }
      }
    }
    records.push_back(std::move(bytes));
  }
  // Queries lean towards one key of their sequence each, so that attention has something to find.
  for (uint32_t layer = 0; layer < p.layers; ++layer) {
    for (uint32_t slot = 0; slot < p.slots(); ++slot) {
      for (uint32_t query = 0; query < p.query_heads(); ++query) {
        const uint8_t* const key =
            record(slot, layer * p.kv_heads + query / p.query_group, random.below(p.tokens(slot)));
        for (uint32_t j = 0; j < d; ++j) {
          const float lean = load(p.kv_dtype, key, j);
          queries.push_back(random.normal() + (std::isfinite(lean) ? 0.5f * lean : 0));
        }
      }
    }
  }
}

void SceneData::lay_pages(Random& random) {
  const SceneParams& p = params;
  page_table = random.permutation(p.page_capacity());
  page_records.resize(p.page_capacity() * p.page_record_bytes());
  for (uint32_t slot = 0; slot < p.slots(); ++slot) {
    for (uint32_t token = 0; token < p.zone_tokens[slot]; ++token) {
      const size_t page = page_table[size_t{slot} * p.max_pages() + token / PKV_PAGE_TOKENS];
      for (uint32_t head = 0; head < p.heads(); ++head) {
        const size_t row = size_t{head % p.kv_heads} * PKV_PAGE_TOKENS + token % PKV_PAGE_TOKENS;
        const size_t to = page_records_offset(page, head / p.kv_heads) + row * p.record_bytes();
        std::memcpy(&page_records[to], record(slot, head, p.sink_tokens + token), p.record_bytes());
      }
    }
  }
}

// The records of a page and layer are laid like those in the window of a cache without sink and with a ring of 512: each
// page is encoded from there. Behind the end of a zone its records are zero, so its summaries are.
void SceneData::summarize(const Side& cpu) {
  const SceneParams& p = params;
  const Buffer one = cpu.allocate(64), table = cpu.allocate(64), invalid = cpu.allocate(p.heads() * 4);
  const Buffer budgets = cpu.allocate(size_t{p.layers} * PKV_BUDGET_FIELDS * 4);
  const Buffer page_window = cpu.allocate(p.page_record_bytes()), calibrated = cpu.upload(calibration);
  const Buffer summaries = cpu.allocate(p.page_summary_bytes());
  const Buffer addresses = cpu.upload(std::vector<uint64_t>{Side::address(summaries), 0, 0});
  pkv_cache_params params_of_cache = cache_params(p, *this);
  params_of_cache.slots = params_of_cache.max_pages = params_of_cache.page_capacity = 1;
  params_of_cache.hot_lines = 0;
  params_of_cache.sink_tokens = 0;
  params_of_cache.ring_tokens = PKV_PAGE_TOKENS;
  params_of_cache.zone_tokens.buffer = one.get();
  params_of_cache.page_table.buffer = table.get();
  params_of_cache.page_address.buffer = addresses.get();
  params_of_cache.window.buffer = page_window.get();
  params_of_cache.invalid_keys.buffer = invalid.get();
  params_of_cache.budget.buffer = budgets.get();
  params_of_cache.calibration.buffer = calibrated.get();
  pkv_cache* created = nullptr;
  must(pkv_cache_create(cpu.context(), &params_of_cache, &created));
  const Owned<pkv_cache> cache(created);

  const uint32_t counts = p.subspaces() * PKV_CENTROIDS;
  page_summaries.resize(p.page_capacity() * p.page_summary_bytes());
  id_counts.resize(size_t{p.slots()} * p.heads() * counts);
  invalid_keys.resize(size_t{p.slots()} * p.heads());
  for (uint32_t slot = 0; slot < p.slots(); ++slot) {
    for (uint32_t first = 0; first < p.zone_tokens[slot]; first += PKV_PAGE_TOKENS) {
      const size_t page = page_table[size_t{slot} * p.max_pages() + first / PKV_PAGE_TOKENS];
      for (uint32_t layer = 0; layer < p.layers; ++layer) {
        must(pkv_buffer_write(page_window.get(), layer * p.layer_record_bytes(),
                              &page_records[page_records_offset(page, layer)], p.layer_record_bytes()));
      }
      const pkv_page_params encode = {cache.get(), 0, 0, 0};
      must(pkv_encode(cpu.context(), &encode));
      uint8_t* const bytes = &page_summaries[page * p.page_summary_bytes()];
      must(pkv_buffer_read(summaries.get(), 0, bytes, p.page_summary_bytes()));
      const uint32_t tokens = std::min<uint32_t>(PKV_PAGE_TOKENS, p.zone_tokens[slot] - first);
      for (uint32_t head = 0; head < p.heads(); ++head) {
        const uint8_t* const ids = bytes + head * p.head_summary_bytes();
        const uint8_t* const codes = ids + size_t{PKV_PAGE_TOKENS} * p.subspaces();
        const size_t entry = size_t{slot} * p.heads() + head;
        for (uint32_t token = 0; token < tokens; ++token) {
          const uint8_t* const code = codes + size_t{token} * (p.head_dim / 2);
          if (std::all_of(code, code + p.head_dim / 2, [](uint8_t pair) { return pair == 0; })) {
            ++invalid_keys[entry];
            continue;
          }
          for (uint32_t b = 0; b < p.subspaces(); ++b) {
            ++id_counts[entry * counts + b * PKV_CENTROIDS + ids[size_t{b} * PKV_PAGE_TOKENS + token]];
          }
        }
      }
    }
  }
}

void SceneData::lay_window() {
  const SceneParams& p = params;
  // Whoever reads a row that no token is in will be found out: all bits set are a NaN in each of the types.
  window.assign(size_t{p.slots()} * p.heads() * p.window_tokens() * p.record_bytes(), 0xff);
  for (uint32_t slot = 0; slot < p.slots(); ++slot) {
    for (uint32_t head = 0; head < p.heads(); ++head) {
      uint8_t* const rows = &window[(size_t{slot} * p.heads() + head) * p.window_tokens() * p.record_bytes()];
      const auto copy = [&](uint32_t position, uint32_t row) {
        std::memcpy(rows + row * p.record_bytes(), record(slot, head, position), p.record_bytes());
      };
      for (uint32_t position = 0; position < p.sink_tokens; ++position) copy(position, position);
      for (uint32_t i = 0; i < p.ring_used[slot]; ++i) {
        const uint32_t token = p.zone_tokens[slot] + i;
        copy(p.sink_tokens + token, p.sink_tokens + token % p.ring_tokens);
      }
    }
  }
}

pkv_cache_params cache_params(const SceneParams& p, const SceneData& data) {
  pkv_cache_params params = {};
  params.layers = p.layers;
  params.kv_heads = p.kv_heads;
  params.query_group = p.query_group;
  params.head_dim = p.head_dim;
  params.kv_dtype = p.kv_dtype;
  params.slots = p.slots();
  params.sink_tokens = p.sink_tokens;
  params.ring_tokens = p.ring_tokens;
  params.max_pages = p.max_pages();
  params.page_capacity = p.page_capacity();
  params.hot_lines = p.hot_lines;
  params.signs = data.signs.data();
  params.centres = data.centres.data();
  params.thresholds = data.thresholds.data();
  return params;
}

PlacedScene::PlacedScene(const Side& on, const SceneData& from)
    : side(on),
      data(from),
      zone_tokens(on.upload(from.zone_tokens)),
      page_table(on.upload(from.page_table)),
      summaries(on.upload(from.page_summaries)),
      records(on.upload(from.page_records, from.params.record_kind)),
      window(on.upload(from.window)),
      id_counts(on.upload(from.id_counts)),
      invalid_keys(on.upload(from.invalid_keys)),
      budget(on.allocate(size_t{from.params.slots()} * from.params.layers * PKV_BUDGET_FIELDS * 4)),
      calibration(on.upload(from.calibration)),
      hot_tags(on.allocate(from.params.all_hot_lines() * 4)),
      hot_records(on.allocate(from.params.all_hot_lines() * from.params.record_bytes())) {
  const SceneParams& p = from.params;
  std::vector<uint64_t> addresses;
  for (uint32_t page = 0; page < p.page_capacity(); ++page) {
    addresses.push_back(Side::address(summaries) + page * p.page_summary_bytes());
    addresses.push_back(Side::address(records) + from.page_records_offset(page, 0));
    addresses.push_back(p.page_capacity() * p.layer_record_bytes());
  }
  page_address = on.upload(addresses);
  pkv_cache_params params = cache_params(p, from);
  params.zone_tokens.buffer = zone_tokens.get();
  params.page_table.buffer = page_table.get();
  params.page_address.buffer = page_address.get();
  params.window.buffer = window.get();
  params.id_counts.buffer = id_counts.get();
  params.invalid_keys.buffer = invalid_keys.get();
  params.budget.buffer = budget.get();
  params.calibration.buffer = calibration.get();
  params.hot_tags.buffer = hot_tags.get();
  params.hot_records.buffer = hot_records.get();
  pkv_cache* created = nullptr;
  must(pkv_cache_create(on.context(), &params, &created));
  cache.reset(created);
}

void PlacedScene::set_budget(uint32_t mode, uint32_t candidates, uint32_t top_k) const {
  constexpr uint32_t percents[] = PKV_TIER_SHARES_PERCENT;
  const std::vector<int32_t> zones = Side::read<int32_t>(zone_tokens, data.params.slots());
  std::vector<int32_t> table;
  for (const int32_t zone : zones) {
    for (uint32_t layer = 0; layer < data.params.layers; ++layer) {
      table.push_back(static_cast<int32_t>(mode));
      table.push_back(static_cast<int32_t>(candidates));
      table.push_back(static_cast<int32_t>(top_k));
      for (const uint32_t percent : percents) table.push_back((zone * static_cast<int32_t>(percent) + 399) / 400);
    }
  }
  Side::write(budget, table);
}

PlacedPlan::PlacedPlan(const PlacedScene& scene, const Policy& policy, uint32_t max_rows, uint32_t max_zone_tokens) {
  const pkv_plan_params params = {scene.cache.get(), max_rows,     max_zone_tokens, policy.max_candidates,
                                  policy.max_top_k,  policy.votes, policy.group,    policy.estimates_mass};
  pkv_plan* created = nullptr;
  must(pkv_plan_create(scene.side.context(), &params, &created));
  plan.reset(created);
  pkv_buffer* buffer = nullptr;
  uint64_t bytes = 0;
  must(pkv_plan_buffer(created, &buffer, &bytes));
  workspace.reset(buffer);
}

uint64_t PlacedPlan::offset_of(uint32_t field) const {
  uint64_t offset_bytes = 0;
  must(pkv_plan_field(plan.get(), field, &offset_bytes));
  return offset_bytes;
}

}  // namespace conformance
