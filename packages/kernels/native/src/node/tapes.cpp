// Recording and running tapes, also away from the JavaScript thread.
#include <memory>

#include "node/arguments.h"
#include "node/exports.h"

namespace pkv::node {
namespace {

Napi::Value record_begin(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  if (arguments.ok()) succeeded(info.Env(), pkv_record_begin(context));
  return {};
}

Napi::Value record_end(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_context* const context = arguments.context();
  pkv_tape* tape;
  if (!arguments.ok() || !succeeded(info.Env(), pkv_record_end(context, &tape))) return {};
  return wrap(info.Env(), tape);
}

// Of a context that `body` may have disposed: nothing to do then.
Napi::Value record_cancel(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  if (auto* const holder = arguments.holder<pkv_context>()) pkv_record_cancel(holder->handle);
  return {};
}

Napi::Value run_tape(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_tape* const tape = arguments.handle<pkv_tape>();
  if (arguments.ok()) succeeded(info.Env(), pkv_tape_run(tape));
  return {};
}

Napi::Value dispose_tape(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  if (auto* const holder = arguments.holder<pkv_tape>()) holder->dispose();
  return {};
}

// One run on a thread of libuv, and the promise of its end. Written against plain Node-API: when a worker is terminated,
// Node waits for the run and calls `complete` in an environment that can no longer call JavaScript, and nothing here may
// mind that.
struct AsyncRun {
  pkv_run* run = nullptr;
  pkv_status status = PKV_OK;
  pkv_error error = {};
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;

  ~AsyncRun() { pkv_run_destroy(run); }

  static void execute(napi_env, void* data) {
    auto& self = *static_cast<AsyncRun*>(data);
    self.status = pkv_run_finish(self.run);
    if (self.status != PKV_OK) pkv_last_error(&self.error);
  }

  static void complete(napi_env env, napi_status, void* data) {
    const std::unique_ptr<AsyncRun> self(static_cast<AsyncRun*>(data));
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) == napi_ok) {
      self->settle(env);
      napi_close_handle_scope(env, scope);
    }
    napi_delete_async_work(env, self->work);
  }

  void settle(napi_env env) const {
    if (status == PKV_OK) {
      napi_value undefined;
      if (napi_get_undefined(env, &undefined) == napi_ok) napi_resolve_deferred(env, deferred, undefined);
    } else if (const napi_value reason = error_value(env, error)) {
      napi_reject_deferred(env, deferred, reason);
    }
  }
};

Napi::Value run_tape_async(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  pkv_tape* const tape = arguments.handle<pkv_tape>();
  auto run = std::make_unique<AsyncRun>();
  if (!arguments.ok() || !succeeded(info.Env(), pkv_tape_submit(tape, &run->run))) return {};
  const napi_env env = info.Env();
  napi_value name, promise;
  if (napi_create_string_utf8(env, "pariskv:run", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_promise(env, &run->deferred, &promise) != napi_ok ||
      napi_create_async_work(env, nullptr, name, AsyncRun::execute, AsyncRun::complete, run.get(), &run->work) !=
          napi_ok ||
      napi_queue_async_work(env, run->work) != napi_ok) {
    Napi::Error::New(info.Env(), "Node-API refused to queue work").ThrowAsJavaScriptException();
    return {};
  }
  run.release();  // complete() deletes it
  return Napi::Value(env, promise);
}

}  // namespace

void export_tapes(Napi::Env env, Napi::Object exports) {
  exports.Set("recordBegin", Napi::Function::New<record_begin>(env, "recordBegin"));
  exports.Set("recordEnd", Napi::Function::New<record_end>(env, "recordEnd"));
  exports.Set("recordCancel", Napi::Function::New<record_cancel>(env, "recordCancel"));
  exports.Set("runTape", Napi::Function::New<run_tape>(env, "runTape"));
  exports.Set("runTapeAsync", Napi::Function::New<run_tape_async>(env, "runTapeAsync"));
  exports.Set("disposeTape", Napi::Function::New<dispose_tape>(env, "disposeTape"));
}

}  // namespace pkv::node
