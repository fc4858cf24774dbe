// The dense decoder operators; arguments as in stages.cpp.
#include "node/arguments.h"
#include "node/exports.h"

namespace pkv::node {
namespace {

// (tokens, weight, dtype, vocab, width, rowCount, out)
Napi::Value embed(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_embed_params params = {};
  params.tokens = arguments.ref();
  params.weight = arguments.ref();
  params.dtype = arguments.u32("dtype");
  params.vocab = arguments.u32("vocab");
  params.width = arguments.u32("width");
  params.row_count = arguments.u32("rowCount");
  params.out = arguments.rows();
  if (arguments.ok()) succeeded(info.Env(), pkv_embed(context, &params));
  return {};
}

// (x, weight, eps, width, groups, rowCount, out)
Napi::Value rmsnorm(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_rmsnorm_params params = {};
  params.x = arguments.rows();
  params.weight = arguments.ref();
  params.eps = arguments.f32("eps");
  params.width = arguments.u32("width");
  params.groups = arguments.u32("groups");
  params.row_count = arguments.u32("rowCount");
  params.out = arguments.rows();
  if (arguments.ok()) succeeded(info.Env(), pkv_rmsnorm(context, &params));
  return {};
}

// (x, weight, dtype, bias or null, its offsetBytes, inWidth, outWidth, rowCount, accumulate, out)
Napi::Value linear(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_linear_params params = {};
  params.x = arguments.rows();
  params.weight = arguments.ref();
  params.dtype = arguments.u32("dtype");
  params.bias = arguments.optional_ref();
  params.in_width = arguments.u32("inWidth");
  params.out_width = arguments.u32("outWidth");
  params.row_count = arguments.u32("rowCount");
  params.accumulate = arguments.boolean("accumulate") ? 1 : 0;
  params.out = arguments.rows();
  if (arguments.ok()) succeeded(info.Env(), pkv_linear(context, &params));
  return {};
}

// (x, heads, headDim, frequencies, step)
Napi::Value rope(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_rope_params params = {};
  params.x = arguments.rows();
  params.heads = arguments.u32("heads");
  params.head_dim = arguments.u32("headDim");
  params.frequencies = arguments.ref();
  params.step = arguments.step();
  if (arguments.ok()) succeeded(info.Env(), pkv_rope(context, &params));
  return {};
}

// (x, width, rowCount, out)
Napi::Value swiglu(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_swiglu_params params = {};
  params.x = arguments.rows();
  params.width = arguments.u32("width");
  params.row_count = arguments.u32("rowCount");
  params.out = arguments.rows();
  if (arguments.ok()) succeeded(info.Env(), pkv_swiglu(context, &params));
  return {};
}

// (x, width, rowCount, out)
Napi::Value argmax(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_argmax_params params = {};
  params.x = arguments.rows();
  params.width = arguments.u32("width");
  params.row_count = arguments.u32("rowCount");
  params.out = arguments.ref();
  if (arguments.ok()) succeeded(info.Env(), pkv_argmax(context, &params));
  return {};
}

}  // namespace

void export_dense(Napi::Env env, Napi::Object exports) {
  exports.Set("embed", Napi::Function::New<embed>(env, "embed"));
  exports.Set("rmsnorm", Napi::Function::New<rmsnorm>(env, "rmsnorm"));
  exports.Set("linear", Napi::Function::New<linear>(env, "linear"));
  exports.Set("rope", Napi::Function::New<rope>(env, "rope"));
  exports.Set("swiglu", Napi::Function::New<swiglu>(env, "swiglu"));
  exports.Set("argmax", Napi::Function::New<argmax>(env, "argmax"));
}

}  // namespace pkv::node
