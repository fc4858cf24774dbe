// One operator with resolved parameters: what a queue runs and what a tape is made of.
#pragma once
#include <array>
#include <variant>

#include "core/operators.h"

namespace pkv {

enum class Verb : uint8_t {
  copy, append, probe, collide, select, rerank, attend, encode, offload, commit,
  embed, rmsnorm, linear, rope, swiglu, argmax, attend_causal,
};
constexpr size_t kVerbs = 17;
constexpr std::array<const char*, kVerbs> kVerbNames = {
    "copy",   "append", "probe", "collide", "select", "rerank", "attend", "encode", "offload",
    "commit", "embed",  "rmsnorm", "linear", "rope", "swiglu", "argmax", "attendCausal"};

struct CopyParams { const uint8_t* from; uint8_t* to; size_t bytes; };

// Several verbs share a type of parameters, so the verb stands beside them.
struct Operation {
  Verb verb;
  std::variant<CopyParams, AppendParams, ProbeParams, StageParams, AttendParams, PageParams, EmbedParams, RmsnormParams,
               LinearParams, RopeParams, SwigluParams, ArgmaxParams, AttendCausalParams>
      params;
};

struct VerbTime { uint64_t calls = 0, nanoseconds = 0; };
using VerbTimes = std::array<VerbTime, kVerbs>;

}  // namespace pkv
