// Failures as JavaScript errors with fields; src/native/native-error.ts turns them into the error family.
#pragma once
#include <napi.h>

#include "pkv.h"

namespace pkv::node {

// An Error with status, argument, expected, received, requestedBytes and availableBytes.
napi_value error_value(napi_env env, const pkv_error& error);

// Throws the last failure of this thread unless `status` is PKV_OK; returns whether it was.
bool succeeded(Napi::Env env, pkv_status status);

// Throws for an argument that is not what this addon takes, or whose handle was disposed.
void throw_wrong_argument(Napi::Env env, const char* argument, const char* expected);
void throw_disposed(Napi::Env env, const char* noun);

}  // namespace pkv::node
