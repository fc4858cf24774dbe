// Where exceptions end: every function of pkv.h that can fail runs its body in `guarded`.
#pragma once
#include <new>

#include "core/error.h"
#include "pkv.h"

namespace pkv::abi {

// Keeps the failure for pkv_last_error of this thread and gives its status.
pkv_status report(const Error& error) noexcept;
pkv_status report_bad_alloc() noexcept;
pkv_status report_unknown(const char* what) noexcept;

template <class Body>
pkv_status guarded(Body&& body) noexcept {
  try {
    body();
    return PKV_OK;
  } catch (const Error& error) {
    return report(error);
  } catch (const std::bad_alloc&) {
    return report_bad_alloc();
  } catch (const std::exception& error) {
    return report_unknown(error.what());
  } catch (...) {
    return report_unknown("an unknown exception");
  }
}

}  // namespace pkv::abi
