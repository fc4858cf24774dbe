// The retrieval stages: check, resolve, submit.
#include "abi/check.h"
#include "abi/guard.h"

using namespace pkv;
using namespace pkv::abi;

namespace {

uint32_t layer_of(const Cache& cache, uint32_t layer) { return require_range("layer", layer, 0, cache.layers - 1); }

uint64_t query_width(const Cache& cache) { return product({cache.query_heads(), cache.head_dim}); }

pkv_status stage(Verb verb, pkv_context* context, const pkv_stage_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    const Plan& plan = resolve.plan(params->plan, params->layer);
    core->submit({verb, StageParams{&plan, params->layer, resolve.step(params->step, plan.max_rows)}}, resolve.keeps());
  });
}

pkv_status page(Verb verb, pkv_context* context, const pkv_page_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    const Cache& cache = resolve.cache(params->cache);
    const uint32_t slot = require_range("slot", params->slot, 0, cache.slots - 1);
    const uint32_t page_index = require_range("page_index", params->page_index, 0, cache.max_pages - 1);
    const uint32_t page_id = require_range("page_id", params->page_id, 0, cache.page_capacity - 1);
    if (cache.ring_tokens < PKV_PAGE_TOKENS) {
      throw invalid_argument("ring_tokens", "at least one page of " + std::to_string(PKV_PAGE_TOKENS) + " tokens",
                             std::to_string(cache.ring_tokens));
    }
    core->submit({verb, PageParams{&cache, slot, page_index, page_id}}, resolve.keeps());
  });
}

}  // namespace

pkv_status pkv_copy(pkv_context* context, const pkv_copy_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    if (params->bytes == 0) throw invalid_argument("bytes", "at least 1", "0");
    Resolver resolve(core);
    const uint8_t* from = resolve.at<uint8_t>("from", params->from, params->bytes);
    uint8_t* to = resolve.at<uint8_t>("to", params->to, params->bytes);
    core->submit({Verb::copy, CopyParams{from, to, params->bytes}}, resolve.keeps());
  });
}

pkv_status pkv_append(pkv_context* context, const pkv_append_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    const Cache& cache = resolve.cache(params->cache);
    const uint32_t layer = layer_of(cache, params->layer);
    const Step step = resolve.step(params->step);
    const uint64_t width = product({cache.kv_heads, cache.head_dim});
    const Rows k = resolve.rows("k", params->k, step.row_count, width);
    const Rows v = resolve.rows("v", params->v, step.row_count, width);
    core->submit({Verb::append, AppendParams{&cache, layer, step, k, v}}, resolve.keeps());
  });
}

pkv_status pkv_probe(pkv_context* context, const pkv_probe_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    const Plan& plan = resolve.plan(params->plan, params->layer);
    const Step step = resolve.step(params->step, plan.max_rows);
    const Rows q = resolve.rows("q", params->q, step.row_count, query_width(*plan.cache));
    core->submit({Verb::probe, ProbeParams{&plan, params->layer, step, q}}, resolve.keeps());
  });
}

pkv_status pkv_collide(pkv_context* context, const pkv_stage_params* params) {
  return stage(Verb::collide, context, params);
}
pkv_status pkv_select(pkv_context* context, const pkv_stage_params* params) {
  return stage(Verb::select, context, params);
}
pkv_status pkv_rerank(pkv_context* context, const pkv_stage_params* params) {
  return stage(Verb::rerank, context, params);
}

pkv_status pkv_attend(pkv_context* context, const pkv_attend_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    const Plan& plan = resolve.plan(params->plan, params->layer);
    const Step step = resolve.step(params->step, plan.max_rows);
    const Rows q = resolve.rows("q", params->q, step.row_count, query_width(*plan.cache));
    const Rows out = resolve.rows("out", params->out, step.row_count, query_width(*plan.cache));
    core->submit({Verb::attend, AttendParams{&plan, params->layer, step, q, out}}, resolve.keeps());
  });
}

pkv_status pkv_encode(pkv_context* context, const pkv_page_params* params) {
  return page(Verb::encode, context, params);
}
pkv_status pkv_offload(pkv_context* context, const pkv_page_params* params) {
  return page(Verb::offload, context, params);
}
pkv_status pkv_commit(pkv_context* context, const pkv_page_params* params) {
  return page(Verb::commit, context, params);
}

pkv_status pkv_attend_causal(pkv_context* context, const pkv_attend_causal_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    const Cache& cache = resolve.cache(params->cache);
    const uint32_t layer = layer_of(cache, params->layer);
    const Step step = resolve.step(params->step);
    const uint32_t first_row = require_range("first_row", params->first_row, 0, step.row_count - 1);
    const uint32_t row_count = require_range("row_count", params->row_count, 1, step.row_count - first_row);
    const Rows q = resolve.rows("q", params->q, first_row + row_count, query_width(cache));
    const Rows out = resolve.rows("out", params->out, first_row + row_count, query_width(cache));
    core->submit({Verb::attend_causal, AttendCausalParams{&cache, layer, step, first_row, row_count, q, out}},
                 resolve.keeps());
  });
}
