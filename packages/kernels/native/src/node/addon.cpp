// The entry of the addon. No state beside the handles: every environment, workers included, has its own.
#include "node/exports.h"
#include "pkv.h"

namespace {

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("abiVersion", Napi::Number::New(env, pkv_abi_version()));
  exports.Set("specFingerprint", Napi::Number::New(env, pkv_spec_fingerprint()));
  pkv::node::export_contexts(env, exports);
  pkv::node::export_memory(env, exports);
  pkv::node::export_tapes(env, exports);
  pkv::node::export_stages(env, exports);
  pkv::node::export_dense(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(kernels, initialize)
