// Buffers, caches and plans.
#include "node/arguments.h"
#include "node/exports.h"

namespace pkv::node {
namespace {

template <class T>
Napi::Value dispose(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  if (auto* const holder = arguments.holder<T>()) holder->dispose();
  return {};
}

// (context, kind)
Napi::Value available_bytes(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  const uint32_t kind = arguments.u32("kind");
  uint64_t bytes;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_available_bytes(context, kind, &bytes))) return {};
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

// (context, bytes, kind)
Napi::Value create_buffer(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  const uint64_t bytes = arguments.u64("bytes");
  const uint32_t kind = arguments.u32("kind");
  pkv_buffer* buffer;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_buffer_create(context, bytes, kind, &buffer))) return {};
  return wrap(info.Env(), buffer);
}

Napi::Value buffer_address(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_buffer* const buffer = arguments.handle<pkv_buffer>();
  uint64_t address;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_buffer_address(buffer, &address))) return {};
  return Napi::BigInt::New(info.Env(), address);
}

// (buffer, offsetBytes, view)
Napi::Value write_buffer(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const pkv_ref at = arguments.ref();
  const Bytes source = arguments.bytes("source");
  if (arguments.ok()) {
    succeeded(info.Env(), pkv_buffer_write(at.buffer, at.offset_bytes, source.data, source.length));
  }
  return {};
}

Napi::Value read_buffer(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const pkv_ref at = arguments.ref();
  const Bytes target = arguments.bytes("target");
  if (arguments.ok()) {
    succeeded(info.Env(), pkv_buffer_read(at.buffer, at.offset_bytes, target.data, target.length));
  }
  return {};
}

Napi::Value time_read_buffer(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_buffer* const buffer = arguments.handle<pkv_buffer>();
  double seconds;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_buffer_time_read(buffer, &seconds))) return {};
  return Napi::Number::New(info.Env(), seconds);
}

// (context, layers .. pageCapacity, zoneTokens .. calibration, hotLines, hotTags, hotRecords, signs, centres, thresholds), as
// in pkv_cache_params
Napi::Value create_cache(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_cache_params params = {};
  params.layers = arguments.u32("layers");
  params.kv_heads = arguments.u32("kvHeads");
  params.query_group = arguments.u32("queryGroup");
  params.head_dim = arguments.u32("headDim");
  params.kv_dtype = arguments.u32("kvDtype");
  params.slots = arguments.u32("slots");
  params.sink_tokens = arguments.u32("sinkTokens");
  params.ring_tokens = arguments.u32("ringTokens");
  params.max_pages = arguments.u32("maxPages");
  params.page_capacity = arguments.u32("pageCapacity");
  params.zone_tokens = arguments.ref();
  params.page_table = arguments.ref();
  params.page_address = arguments.ref();
  params.window = arguments.ref();
  params.id_counts = arguments.optional_ref();
  params.invalid_keys = arguments.ref();
  params.budget = arguments.ref();
  params.calibration = arguments.ref();
  params.hot_lines = arguments.u32("hotLines");
  params.hot_tags = arguments.optional_ref();
  params.hot_records = arguments.optional_ref();
  params.signs = arguments.floats("codec.signs", params.head_dim);
  params.centres = arguments.floats("codec.centres", PKV_MAGNITUDE_LEVELS);
  params.thresholds = arguments.floats("codec.thresholds", PKV_MAGNITUDE_LEVELS - 1);
  pkv_cache* cache;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_cache_create(context, &params, &cache))) return {};
  return wrap(info.Env(), cache);
}

// (context, cache, maxRows, maxZoneTokens, maxCandidates, maxTopK, votes, group, estimateMass)
Napi::Value create_plan(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_plan_params params = {};
  params.cache = arguments.handle<pkv_cache>();
  params.max_rows = arguments.u32("maxRows");
  params.max_zone_tokens = arguments.u32("maxZoneTokens");
  params.max_candidates = arguments.u32("maxCandidates");
  params.max_top_k = arguments.u32("maxTopK");
  params.votes = arguments.u32("votes");
  params.group = arguments.u32("group");
  params.estimate_mass = arguments.u32("estimateMass");
  pkv_plan* plan;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_plan_create(context, &params, &plan))) return {};
  return wrap(info.Env(), plan);
}

// [buffer, bytes]
Napi::Value plan_buffer(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_plan* const plan = arguments.handle<pkv_plan>();
  pkv_buffer* buffer;
  uint64_t bytes;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_plan_buffer(plan, &buffer, &bytes))) return {};
  auto result = Napi::Array::New(info.Env(), 2);
  result.Set(0u, wrap(info.Env(), buffer));
  result.Set(1u, Napi::Number::New(info.Env(), static_cast<double>(bytes)));
  return result;
}

// (plan, field)
Napi::Value plan_field(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_plan* const plan = arguments.handle<pkv_plan>();
  const uint32_t field = arguments.u32("field");
  uint64_t offset_bytes;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_plan_field(plan, field, &offset_bytes))) return {};
  return Napi::Number::New(info.Env(), static_cast<double>(offset_bytes));
}

}  // namespace

void export_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("availableBytes", Napi::Function::New<available_bytes>(env, "availableBytes"));
  exports.Set("createBuffer", Napi::Function::New<create_buffer>(env, "createBuffer"));
  exports.Set("disposeBuffer", Napi::Function::New<dispose<pkv_buffer>>(env, "disposeBuffer"));
  exports.Set("bufferAddress", Napi::Function::New<buffer_address>(env, "bufferAddress"));
  exports.Set("writeBuffer", Napi::Function::New<write_buffer>(env, "writeBuffer"));
  exports.Set("readBuffer", Napi::Function::New<read_buffer>(env, "readBuffer"));
  exports.Set("timeReadBuffer", Napi::Function::New<time_read_buffer>(env, "timeReadBuffer"));
  exports.Set("createCache", Napi::Function::New<create_cache>(env, "createCache"));
  exports.Set("disposeCache", Napi::Function::New<dispose<pkv_cache>>(env, "disposeCache"));
  exports.Set("createPlan", Napi::Function::New<create_plan>(env, "createPlan"));
  exports.Set("disposePlan", Napi::Function::New<dispose<pkv_plan>>(env, "disposePlan"));
  exports.Set("planBuffer", Napi::Function::New<plan_buffer>(env, "planBuffer"));
  exports.Set("planField", Napi::Function::New<plan_field>(env, "planField"));
}

}  // namespace pkv::node
