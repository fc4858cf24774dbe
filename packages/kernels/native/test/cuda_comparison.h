// What a step left in the workspaces of a plan on the GPU, beside what it left on the CPU.
#pragma once
#include <algorithm>
#include <numeric>
#include <set>

#include "cuda_report.h"
#include "cuda_scene.h"

namespace conformance {

struct Case {
  Policy policy;
  uint32_t mode, candidates, top_k;
  bool as_tape;
};

inline const char* mode_name(uint32_t mode) {
  return mode == PKV_MODE_VOTE ? "vote" : mode == PKV_MODE_SCAN ? "scan" : "dense";
}

inline std::string describe(const Case& c) {
  const char* const groups[] = {"mean", "max", "sum"};
  return std::string(mode_name(c.mode)) + (c.policy.votes == PKV_VOTES_TIERED ? " tiered " : " graded ") +
         groups[c.policy.group] + ", C " + std::to_string(c.candidates) + ", K " + std::to_string(c.top_k) +
         (c.as_tape ? ", tape" : "");
}

// A step over all slots, in reverse and with a row that is skipped in between.
struct StepRows {
  std::vector<int32_t> table;
  uint32_t count;
};
inline StepRows step_rows(const SceneParams& p) {
  StepRows rows{{}, 0};
  for (uint32_t slot = p.slots(); slot-- > 0;) {
    rows.table.insert(rows.table.end(), {static_cast<int32_t>(slot), static_cast<int32_t>(p.tokens(slot)) - 1});
    if (slot == p.slots() / 2) rows.table.insert(rows.table.end(), {-1, 12345});
  }
  rows.count = static_cast<uint32_t>(rows.table.size() / 2);
  return rows;
}

// Compares the workspaces of two plans, row by row and head by head.
class Comparison {
 public:
  Comparison(Report& report, const SceneData& data, const Case& c, const StepRows& rows, const PlacedPlan& cpu,
             const PlacedPlan& cuda, uint32_t max_rows, uint32_t max_zone_tokens)
      : report_(report),
        data_(data),
        p_(data.params),
        case_(c),
        rows_(rows),
        cpu_(cpu),
        cuda_(cuda),
        heads_(size_t{max_rows} * data.params.kv_heads),
        max_zone_(max_zone_tokens),
        queries_(c.policy.group == PKV_GROUP_MEAN ? 1 : data.params.query_group),
        tables_(c.policy.group == PKV_GROUP_MAX ? data.params.query_group : 1) {}

  void probe() {
    both<float>(PKV_PLAN_FIELD_ROTATED, size_t{queries_} * p_.head_dim,
                [&](const float* want, const float* got, size_t) {
                  report_.same(want, got, size_t{queries_} * p_.head_dim, what("rotated queries"));
                });
    if (case_.mode != PKV_MODE_VOTE) return;
    const size_t table_bytes = size_t{tables_} * p_.subspaces() * PKV_CENTROIDS;
    both<uint8_t>(PKV_PLAN_FIELD_TABLES, table_bytes, [&](const uint8_t* want, const uint8_t* got, size_t) {
      report_.same(want, got, table_bytes, what("vote tables"));
    });
  }
  void collide() {
    if (case_.mode != PKV_MODE_VOTE) return;
    both<uint16_t>(PKV_PLAN_FIELD_SCORES, max_zone_, [&](const uint16_t* want, const uint16_t* got, size_t entry) {
      report_.same(want, got, p_.zone_tokens[slot_of(entry)], what("scores"));
    });
  }
  void select() {
    counts_ = cpu_.field<int32_t>(PKV_PLAN_FIELD_CANDIDATE_COUNT, heads_);
    both<int32_t>(PKV_PLAN_FIELD_CANDIDATE_COUNT, 1, [&](const int32_t* want, const int32_t* got, size_t) {
      report_.same(want, got, 1, what("number of candidates"));
    });
    both<uint32_t>(PKV_PLAN_FIELD_CANDIDATES, case_.policy.max_candidates,
                   [&](const uint32_t* want, const uint32_t* got, size_t entry) {
                     report_.same(want, got, static_cast<size_t>(counts_[entry]), what("candidates"));
                   });
  }
  // Estimates to 1e-5 of the largest, or of the query's length, which is the size of what an estimate is summed from:
  // keys have coordinates of size one. Priorities accordingly; the same keys except where priorities are closer than
  // that.
  void rerank() {
    const size_t most = case_.policy.max_candidates;
    const float scale = 1 / std::sqrt(static_cast<float>(p_.head_dim));
    const auto rotated = cpu_.field<float>(PKV_PLAN_FIELD_ROTATED, heads_ * queries_ * p_.head_dim);
    std::vector<float> largest(heads_, 0.0f);
    both<float>(PKV_PLAN_FIELD_ESTIMATES, queries_ * most, [&](const float* want, const float* got, size_t entry) {
      for (uint32_t query = 0; query < queries_; ++query) {
        const float* const q = &rotated[(entry * queries_ + query) * p_.head_dim];
        float of_query = std::sqrt(std::inner_product(q, q + p_.head_dim, q, 0.0f));
        for (int32_t i = 0; i < counts_[entry]; ++i) of_query = std::max(of_query, std::fabs(want[query * most + i]));
        largest[entry] = std::max(largest[entry], of_query);
        report_.close(want + query * most, got + query * most, static_cast<size_t>(counts_[entry]), 1e-5 * of_query,
                      what("estimates"));
      }
    });
    std::vector<double> allowed(heads_, 0.0);
    both<float>(PKV_PLAN_FIELD_PRIORITIES, most, [&](const float* want, const float* got, size_t entry) {
      // A priority is an estimate, a logarithm of a share, or a share.
      const bool is_estimate = queries_ == 1;
      const double shares =
          1e-5 * (2 + 2 * scale * largest[entry]) * (case_.policy.group == PKV_GROUP_SUM ? p_.query_group : 1);
      allowed[entry] = is_estimate ? 1e-5 * largest[entry] : shares;
      report_.close(want, got, static_cast<size_t>(counts_[entry]), allowed[entry], what("priorities"));
    });
    both<int32_t>(PKV_PLAN_FIELD_SELECTED_COUNT, 1, [&](const int32_t* want, const int32_t* got, size_t) {
      report_.same(want, got, 1, what("number of selected keys"));
    });
    const auto candidates = cpu_.field<uint32_t>(PKV_PLAN_FIELD_CANDIDATES, heads_ * most);
    const auto priorities = cpu_.field<float>(PKV_PLAN_FIELD_PRIORITIES, heads_ * most);
    const auto selected_counts = cpu_.field<int32_t>(PKV_PLAN_FIELD_SELECTED_COUNT, heads_);
    both<uint32_t>(
        PKV_PLAN_FIELD_SELECTED, case_.policy.max_top_k, [&](const uint32_t* want, const uint32_t* got, size_t entry) {
          const int32_t count = selected_counts[entry];
          report_.expect(std::is_sorted(got, got + count) && std::adjacent_find(got, got + count) == got + count,
                         what("selected keys ascending"));
          same_choice(want, got, count, &candidates[entry * most], &priorities[entry * most], counts_[entry],
                      2 * allowed[entry]);
        });
    stats({PKV_STATS_LSE_UNSELECTED, PKV_STATS_LSE_OTHERS});
  }
  void attend(const std::vector<float>& want, const std::vector<float>& got) {
    const double allowed = p_.kv_dtype == PKV_DTYPE_F32 ? 1e-5 : 2e-3;
    for (size_t at = 0; at < want.size(); at += p_.head_dim)
      report_.close_vector(&want[at], &got[at], p_.head_dim, allowed, what("attention"));
    stats({PKV_STATS_LSE_ATTENDED});
  }
  // What attend reads, from the CPU.
  void put_selected() {
    cuda_.set_field(PKV_PLAN_FIELD_SELECTED,
                    cpu_.field<uint32_t>(PKV_PLAN_FIELD_SELECTED, heads_ * case_.policy.max_top_k));
    cuda_.set_field(PKV_PLAN_FIELD_SELECTED_COUNT, cpu_.field<int32_t>(PKV_PLAN_FIELD_SELECTED_COUNT, heads_));
  }

 private:
  size_t slot_of(size_t entry) const { return static_cast<size_t>(rows_.table[2 * (entry / p_.kv_heads)]); }
  std::string what(const char* of) const { return conformance::describe(p_) + ", " + describe(case_) + ": " + of; }

  // Calls visit(want, got, entry) for the `count` elements of each row and KV head that is not skipped.
  template <class T, class Visit>
  void both(uint32_t field, size_t count, Visit&& visit) const {
    const std::vector<T> want = cpu_.field<T>(field, heads_ * count), got = cuda_.field<T>(field, heads_ * count);
    for (size_t entry = 0; entry < size_t{rows_.count} * p_.kv_heads; ++entry) {
      if (rows_.table[2 * (entry / p_.kv_heads)] >= 0) visit(&want[entry * count], &got[entry * count], entry);
    }
  }
  void same_choice(const uint32_t* want, const uint32_t* got, int32_t count, const uint32_t* candidates,
                   const float* priorities, int32_t candidate_count, double allowed) const {
    const std::set<uint32_t> wanted(want, want + count), given(got, got + count);
    if (wanted == given) return report_.expect(true, "");
    const auto priority_of = [&](uint32_t key) {
      const uint32_t* const at = std::lower_bound(candidates, candidates + candidate_count, key);
      return at == candidates + candidate_count || *at != key ? NAN : priorities[at - candidates];
    };
    float threshold = INFINITY;
    for (const uint32_t key : wanted) threshold = std::min(threshold, priority_of(key));
    bool holds = true;
    for (const uint32_t key : given) {
      if (wanted.count(key) == 0)
        holds = holds && std::fabs(static_cast<double>(priority_of(key)) - threshold) <= allowed;
    }
    for (const uint32_t key : wanted) {
      if (given.count(key) == 0)
        holds = holds && std::fabs(static_cast<double>(priority_of(key)) - threshold) <= allowed;
    }
    report_.expect(holds, what("selected keys equal but for ties"));
  }
  void stats(std::initializer_list<uint32_t> fields) const {
    constexpr double kAllowed =
        2e-3;  // of a log-sum-exp over estimates that are right to 1e-5 of logits up to some hundred
    const size_t count = size_t{p_.query_group} * PKV_STATS_FIELDS;
    both<float>(PKV_PLAN_FIELD_STATS, count, [&](const float* want, const float* got, size_t) {
      for (size_t at = 0; at < count; at += PKV_STATS_FIELDS) {
        for (const uint32_t field : fields) {
          const char* const names[] = {"log-sum-exp attended", "log-sum-exp unselected", "log-sum-exp others"};
          report_.close(want + at + field, got + at + field, 1, kAllowed * std::max(1.0f, std::fabs(want[at + field])),
                        what(names[field]));
        }
      }
    });
  }

  Report& report_;
  const SceneData& data_;
  const SceneParams& p_;
  const Case& case_;
  const StepRows& rows_;
  const PlacedPlan &cpu_, &cuda_;
  size_t heads_, max_zone_;
  uint32_t queries_, tables_;
  std::vector<int32_t> counts_;
};

}  // namespace conformance
