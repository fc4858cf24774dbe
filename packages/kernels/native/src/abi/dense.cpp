// The dense decoder operators: check, resolve, submit.
#include <cmath>

#include "abi/check.h"
#include "abi/guard.h"

using namespace pkv;
using namespace pkv::abi;

pkv_status pkv_embed(pkv_context* context, const pkv_embed_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    EmbedParams p{};
    p.dtype = require_dtype("dtype", params->dtype);
    p.vocab = require_range("vocab", params->vocab, 1);
    p.width = require_range("width", params->width, 1);
    p.row_count = require_range("row_count", params->row_count, 1);
    p.tokens = resolve.at<int32_t>("tokens", params->tokens, product({p.row_count, sizeof(int32_t)}));
    p.weight = resolve.weight("weight", params->weight, p.dtype, product({p.vocab, p.width}));
    p.out = resolve.rows("out", params->out, p.row_count, p.width);
    core->submit({Verb::embed, p}, resolve.keeps());
  });
}

pkv_status pkv_rmsnorm(pkv_context* context, const pkv_rmsnorm_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    RmsnormParams p{};
    p.width = require_range("width", params->width, 1);
    p.groups = require_range("groups", params->groups, 1);
    p.row_count = require_range("row_count", params->row_count, 1);
    p.eps = params->eps;
    if (!(p.eps >= 0.0f && std::isfinite(p.eps))) {
      throw invalid_argument("eps", "a finite number >= 0", std::to_string(p.eps));
    }
    p.weight = resolve.at<float>("weight", params->weight, product({p.width, sizeof(float)}));
    const uint64_t row_width = product({p.groups, p.width});
    p.x = resolve.rows("x", params->x, p.row_count, row_width);
    p.out = resolve.rows("out", params->out, p.row_count, row_width);
    core->submit({Verb::rmsnorm, p}, resolve.keeps());
  });
}

pkv_status pkv_linear(pkv_context* context, const pkv_linear_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    LinearParams p{};
    p.dtype = require_dtype("dtype", params->dtype);
    p.in_width = require_range("in_width", params->in_width, 1);
    p.out_width = require_range("out_width", params->out_width, 1);
    p.row_count = require_range("row_count", params->row_count, 1);
    p.accumulate = params->accumulate != 0;
    p.weight = resolve.weight("weight", params->weight, p.dtype, product({p.in_width, p.out_width}));
    if (params->bias.buffer != nullptr) {
      p.bias = resolve.at<float>("bias", params->bias, product({p.out_width, sizeof(float)}));
    }
    p.x = resolve.rows("x", params->x, p.row_count, p.in_width);
    p.out = resolve.rows("out", params->out, p.row_count, p.out_width);
    core->submit({Verb::linear, p}, resolve.keeps());
  });
}

pkv_status pkv_rope(pkv_context* context, const pkv_rope_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    RopeParams p{};
    p.heads = require_range("heads", params->heads, 1);
    p.head_dim = require_range("head_dim", params->head_dim, 2);
    if (p.head_dim % 2 != 0) throw invalid_argument("head_dim", "even", std::to_string(p.head_dim));
    p.frequencies =
        resolve.at<float>("frequencies", params->frequencies, product({p.head_dim / 2, sizeof(float)}));
    p.step = resolve.step(params->step);
    p.x = resolve.rows("x", params->x, p.step.row_count, product({p.heads, p.head_dim}));
    core->submit({Verb::rope, p}, resolve.keeps());
  });
}

pkv_status pkv_swiglu(pkv_context* context, const pkv_swiglu_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    SwigluParams p{};
    p.width = require_range("width", params->width, 1);
    p.row_count = require_range("row_count", params->row_count, 1);
    p.x = resolve.rows("x", params->x, p.row_count, product({2, p.width}));
    p.out = resolve.rows("out", params->out, p.row_count, p.width);
    core->submit({Verb::swiglu, p}, resolve.keeps());
  });
}

pkv_status pkv_argmax(pkv_context* context, const pkv_argmax_params* params) {
  return guarded([&] {
    const auto& core = require("context", context).core;
    require("params", params);
    Resolver resolve(core);
    ArgmaxParams p{};
    p.width = require_range("width", params->width, 1);
    p.row_count = require_range("row_count", params->row_count, 1);
    p.x = resolve.rows("x", params->x, p.row_count, p.width);
    p.out = resolve.at<int32_t>("out", params->out, product({p.row_count, sizeof(int32_t)}));
    core->submit({Verb::argmax, p}, resolve.keeps());
  });
}
