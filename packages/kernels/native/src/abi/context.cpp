#include <string>

#include "abi/check.h"
#include "abi/guard.h"

using namespace pkv;
using namespace pkv::abi;

namespace {

struct Choice {
  bool cuda;
  DeviceOptions options;
};

Choice choice_of(const pkv_context_options& options) {
  const uint32_t device = require_one_of("device", options.device, {PKV_CPU, PKV_CUDA});
  constexpr unsigned kMostThreads = 1024;
  return {device == PKV_CUDA, {require_range("threads", options.threads, 0, kMostThreads), options.isa}};
}

}  // namespace

uint32_t pkv_abi_version(void) { return PKV_ABI_VERSION; }
uint32_t pkv_spec_fingerprint(void) { return PKV_SPEC_FINGERPRINT; }

pkv_status pkv_probe_device(const pkv_context_options* options, pkv_device_status* out) {
  return guarded([&] {
    const Choice choice = choice_of(require("options", options));
    require("out", out);
    const DeviceStatus status = choice.cuda ? cuda_status(choice.options) : cpu_status(choice.options);
    out->available = status.available ? 1 : 0;
    out->detail[status.detail.copy(out->detail, sizeof out->detail - 1)] = '\0';
  });
}

pkv_status pkv_context_create(const pkv_context_options* options, pkv_context** out) {
  return guarded([&] {
    const Choice choice = choice_of(require("options", options));
    require("out", out);
    auto device = choice.cuda ? make_cuda_device(choice.options) : make_cpu_device(choice.options);
    *out = new pkv_context{std::make_shared<Context>(std::move(device))};
  });
}

void pkv_context_destroy(pkv_context* context) {
  if (context == nullptr) return;
  context->core->close();
  delete context;
}

pkv_status pkv_context_detail(pkv_context* context, const char** out) {
  return guarded([&] { require("out", out) = require("context", context).core->device().detail().c_str(); });
}

pkv_status pkv_context_synchronize(pkv_context* context) {
  return guarded([&] { require("context", context).core->synchronize(); });
}

uint32_t pkv_verb_count(void) { return kVerbs; }

pkv_status pkv_take_times(pkv_context* context, pkv_verb_time* out) {
  return guarded([&] {
    require("out", out);
    const VerbTimes times = require("context", context).core->take_times();
    for (size_t verb = 0; verb < kVerbs; ++verb) {
      out[verb] = {kVerbNames[verb], times[verb].calls, times[verb].nanoseconds};
    }
  });
}
