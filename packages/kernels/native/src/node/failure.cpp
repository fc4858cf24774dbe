#include "node/failure.h"

#include <cstdio>

namespace pkv::node {
namespace {

void set_number(napi_env env, napi_value object, const char* name, double value) {
  napi_value number;
  if (napi_create_double(env, value, &number) == napi_ok) napi_set_named_property(env, object, name, number);
}

void set_text(napi_env env, napi_value object, const char* name, const char* value) {
  napi_value text;
  if (napi_create_string_utf8(env, value, NAPI_AUTO_LENGTH, &text) == napi_ok) {
    napi_set_named_property(env, object, name, text);
  }
}

void throw_error(Napi::Env env, const pkv_error& error) {
  const napi_value value = error_value(env, error);
  if (value != nullptr) napi_throw(env, value);
}

}  // namespace

napi_value error_value(napi_env env, const pkv_error& error) {
  napi_value message, result;
  if (napi_create_string_utf8(env, error.message, NAPI_AUTO_LENGTH, &message) != napi_ok ||
      napi_create_error(env, nullptr, message, &result) != napi_ok) {
    return nullptr;  // the environment is ending
  }
  set_number(env, result, "status", error.status);
  set_text(env, result, "argument", error.argument);
  set_text(env, result, "expected", error.expected);
  set_text(env, result, "received", error.received);
  set_number(env, result, "requestedBytes", static_cast<double>(error.requested_bytes));
  set_number(env, result, "availableBytes", static_cast<double>(error.available_bytes));
  return result;
}

bool succeeded(Napi::Env env, pkv_status status) {
  if (status == PKV_OK) return true;
  pkv_error error;
  pkv_last_error(&error);
  throw_error(env, error);
  return false;
}

void throw_wrong_argument(Napi::Env env, const char* argument, const char* expected) {
  pkv_error error = {};
  error.status = PKV_INVALID_ARGUMENT;
  std::snprintf(error.argument, sizeof error.argument, "%s", argument);
  std::snprintf(error.expected, sizeof error.expected, "%s", expected);
  std::snprintf(error.received, sizeof error.received, "something else");
  std::snprintf(error.message, sizeof error.message, "Expected %s to be %s but received something else.", argument,
                expected);
  throw_error(env, error);
}

void throw_disposed(Napi::Env env, const char* noun) {
  pkv_error error = {};
  error.status = PKV_DISPOSED;
  std::snprintf(error.argument, sizeof error.argument, "%s", noun);
  std::snprintf(error.message, sizeof error.message, "Expected the %s to be in use but received a disposed one.", noun);
  throw_error(env, error);
}

}  // namespace pkv::node
