// Handles of pkv.h as JavaScript externals. A type tag keeps values of another kind, or of another addon, out.
#pragma once
#include <napi.h>

#include "pkv.h"

namespace pkv::node {

template <class T>
struct HandleKind;

#define PKV_HANDLE_KIND(type, number)                                                          \
  template <>                                                                                  \
  struct HandleKind<pkv_##type> {                                                              \
    static constexpr const char* noun = #type;                                                 \
    static constexpr napi_type_tag tag = {0x9a4f3c6b70d14e25ull, 0xb6c2e8d75a1f4300ull + number}; \
    static void destroy(pkv_##type* handle) { pkv_##type##_destroy(handle); }                  \
  }

PKV_HANDLE_KIND(context, 1);
PKV_HANDLE_KIND(buffer, 2);
PKV_HANDLE_KIND(cache, 3);
PKV_HANDLE_KIND(plan, 4);
PKV_HANDLE_KIND(tape, 5);

#undef PKV_HANDLE_KIND

// What the external points to; `handle` is null once disposed.
template <class T>
struct Holder {
  T* handle;
  void dispose() {
    T* const given_up = handle;
    handle = nullptr;
    HandleKind<T>::destroy(given_up);
  }
};

// The external owns the handle: garbage collection and the end of the environment destroy what nobody disposed.
template <class T>
Napi::Value wrap(Napi::Env env, T* handle) {
  auto* const holder = new Holder<T>{handle};
  auto external = Napi::External<Holder<T>>::New(env, holder, [](Napi::Env, Holder<T>* data) {
    data->dispose();
    delete data;
  });
  external.TypeTag(&HandleKind<T>::tag);
  return external;
}

// The holder behind a value, or null when it is something else.
template <class T>
Holder<T>* unwrap(const Napi::Value& value) {
  if (!value.IsExternal()) return nullptr;
  const auto external = value.As<Napi::External<Holder<T>>>();
  return external.CheckTypeTag(&HandleKind<T>::tag) ? external.Data() : nullptr;
}

}  // namespace pkv::node
