// The retrieval stages. A reference is (buffer, offsetBytes), rows are (buffer, offsetBytes, rowStride), a step is
// (buffer, offsetBytes, rowCount); every function begins with the context.
#include "node/arguments.h"
#include "node/exports.h"

namespace pkv::node {
namespace {

// (from, to, bytes)
Napi::Value copy(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  const pkv_ref from = arguments.ref();
  const pkv_ref to = arguments.ref();
  const pkv_copy_params params = {from, to, arguments.u64("bytes")};
  if (arguments.ok()) succeeded(info.Env(), pkv_copy(context, &params));
  return {};
}

// (cache, layer, step, k, v)
Napi::Value append(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_append_params params = {};
  params.cache = arguments.handle<pkv_cache>();
  params.layer = arguments.u32("layer");
  params.step = arguments.step();
  params.k = arguments.rows();
  params.v = arguments.rows();
  if (arguments.ok()) succeeded(info.Env(), pkv_append(context, &params));
  return {};
}

// (plan, layer, step, q)
Napi::Value probe(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_probe_params params = {};
  params.plan = arguments.handle<pkv_plan>();
  params.layer = arguments.u32("layer");
  params.step = arguments.step();
  params.q = arguments.rows();
  if (arguments.ok()) succeeded(info.Env(), pkv_probe(context, &params));
  return {};
}

// (plan, layer, step)
template <pkv_status (*kOperator)(pkv_context*, const pkv_stage_params*)>
Napi::Value stage(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_stage_params params = {};
  params.plan = arguments.handle<pkv_plan>();
  params.layer = arguments.u32("layer");
  params.step = arguments.step();
  if (arguments.ok()) succeeded(info.Env(), kOperator(context, &params));
  return {};
}

// (plan, layer, step, q, out)
Napi::Value attend(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_attend_params params = {};
  params.plan = arguments.handle<pkv_plan>();
  params.layer = arguments.u32("layer");
  params.step = arguments.step();
  params.q = arguments.rows();
  params.out = arguments.rows();
  if (arguments.ok()) succeeded(info.Env(), pkv_attend(context, &params));
  return {};
}

// (cache, slot, pageIndex, pageId)
template <pkv_status (*kOperator)(pkv_context*, const pkv_page_params*)>
Napi::Value page(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_page_params params = {};
  params.cache = arguments.handle<pkv_cache>();
  params.slot = arguments.u32("slot");
  params.page_index = arguments.u32("pageIndex");
  params.page_id = arguments.u32("pageId");
  if (arguments.ok()) succeeded(info.Env(), kOperator(context, &params));
  return {};
}

// (cache, layer, step, firstRow, rowCount, q, out)
Napi::Value attend_causal(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_attend_causal_params params = {};
  params.cache = arguments.handle<pkv_cache>();
  params.layer = arguments.u32("layer");
  params.step = arguments.step();
  params.first_row = arguments.u32("firstRow");
  params.row_count = arguments.u32("rowCount");
  params.q = arguments.rows();
  params.out = arguments.rows();
  if (arguments.ok()) succeeded(info.Env(), pkv_attend_causal(context, &params));
  return {};
}

}  // namespace

void export_stages(Napi::Env env, Napi::Object exports) {
  exports.Set("copy", Napi::Function::New<copy>(env, "copy"));
  exports.Set("append", Napi::Function::New<append>(env, "append"));
  exports.Set("probe", Napi::Function::New<probe>(env, "probe"));
  exports.Set("collide", Napi::Function::New<stage<pkv_collide>>(env, "collide"));
  exports.Set("select", Napi::Function::New<stage<pkv_select>>(env, "select"));
  exports.Set("rerank", Napi::Function::New<stage<pkv_rerank>>(env, "rerank"));
  exports.Set("attend", Napi::Function::New<attend>(env, "attend"));
  exports.Set("encode", Napi::Function::New<page<pkv_encode>>(env, "encode"));
  exports.Set("offload", Napi::Function::New<page<pkv_offload>>(env, "offload"));
  exports.Set("commit", Napi::Function::New<page<pkv_commit>>(env, "commit"));
  exports.Set("attendCausal", Napi::Function::New<attend_causal>(env, "attendCausal"));
}

}  // namespace pkv::node
