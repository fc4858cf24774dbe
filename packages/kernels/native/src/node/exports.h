// The functions of the addon, grouped as pkv.h groups them.
#pragma once
#include <napi.h>

namespace pkv::node {

void export_contexts(Napi::Env env, Napi::Object exports);
void export_memory(Napi::Env env, Napi::Object exports);
void export_tapes(Napi::Env env, Napi::Object exports);
void export_stages(Napi::Env env, Napi::Object exports);
void export_dense(Napi::Env env, Napi::Object exports);

}  // namespace pkv::node
