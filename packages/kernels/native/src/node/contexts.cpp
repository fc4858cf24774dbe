// Contexts: (device: 0 cpu | 1 cuda, threads, isa | null).
#include <vector>

#include "node/arguments.h"
#include "node/exports.h"

namespace pkv::node {
namespace {

struct Options {
  std::string isa;
  pkv_context_options value;
};

void read_options(Arguments& arguments, Options& options) {
  options.value.device = static_cast<pkv_device>(arguments.u32("device"));
  options.value.threads = arguments.u32("threads");
  options.isa = arguments.text("isa");
  options.value.isa = options.isa.empty() ? nullptr : options.isa.c_str();
}

// [available, detail]
Napi::Value probe_device(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  Options options;
  read_options(arguments, options);
  pkv_device_status status;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_probe_device(&options.value, &status))) return {};
  auto result = Napi::Array::New(info.Env(), 2);
  result.Set(0u, Napi::Boolean::New(info.Env(), status.available != 0));
  result.Set(1u, Napi::String::New(info.Env(), status.detail));
  return result;
}

Napi::Value create_context(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  Options options;
  read_options(arguments, options);
  pkv_context* context;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_context_create(&options.value, &context))) return {};
  return wrap(info.Env(), context);
}

Napi::Value dispose_context(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  if (auto* const holder = arguments.holder<pkv_context>()) holder->dispose();
  return {};
}

Napi::Value context_detail(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  const char* detail;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_context_detail(context, &detail))) return {};
  return Napi::String::New(info.Env(), detail);
}

Napi::Value synchronize(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  if (arguments.ok()) succeeded(info.Env(), pkv_context_synchronize(context));
  return {};
}

// [verb, calls, nanoseconds, verb, calls, nanoseconds, ..]
Napi::Value take_times(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  std::vector<pkv_verb_time> times(pkv_verb_count());
  if (!arguments.ok() || !succeeded(info.Env(), pkv_take_times(context, times.data()))) return {};
  auto result = Napi::Array::New(info.Env());
  uint32_t at = 0;
  for (const pkv_verb_time& time : times) {
    if (time.calls == 0) continue;
    result.Set(at++, Napi::String::New(info.Env(), time.verb));
    result.Set(at++, Napi::Number::New(info.Env(), static_cast<double>(time.calls)));
    result.Set(at++, Napi::Number::New(info.Env(), static_cast<double>(time.nanoseconds)));
  }
  return result;
}

}  // namespace

void export_contexts(Napi::Env env, Napi::Object exports) {
  exports.Set("probeDevice", Napi::Function::New<probe_device>(env, "probeDevice"));
  exports.Set("createContext", Napi::Function::New<create_context>(env, "createContext"));
  exports.Set("disposeContext", Napi::Function::New<dispose_context>(env, "disposeContext"));
  exports.Set("contextDetail", Napi::Function::New<context_detail>(env, "contextDetail"));
  exports.Set("synchronize", Napi::Function::New<synchronize>(env, "synchronize"));
  exports.Set("takeTimes", Napi::Function::New<take_times>(env, "takeTimes"));
}

}  // namespace pkv::node
