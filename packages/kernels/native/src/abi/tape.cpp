#include "abi/check.h"
#include "abi/guard.h"

using namespace pkv;
using namespace pkv::abi;

namespace {

void require_outside_record(const Context& context) {
  if (context.recording()) throw invalid_argument("run", "called outside record", "a call inside one");
}

}  // namespace

pkv_status pkv_record_begin(pkv_context* context) {
  return guarded([&] { require("context", context).core->record_begin(); });
}

pkv_status pkv_record_end(pkv_context* context, pkv_tape** out) {
  return guarded([&] {
    require("out", out);
    const auto& core = require("context", context).core;
    auto tape = std::make_unique<pkv_tape>();
    tape->context = core;
    tape->core = core->record_end();
    *out = tape.release();
  });
}

void pkv_record_cancel(pkv_context* context) {
  if (context != nullptr) context->core->record_cancel();
}

pkv_status pkv_tape_run(pkv_tape* tape) {
  return guarded([&] {
    Context& context = *require("tape", tape).context;
    require_outside_record(context);
    context.run(*tape->core, context.take_place());
  });
}

void pkv_tape_destroy(pkv_tape* tape) { delete tape; }

pkv_status pkv_tape_submit(pkv_tape* tape, pkv_run** out) {
  return guarded([&] {
    require("out", out);
    Context& context = *require("tape", tape).context;
    require_outside_record(context);
    context.require_open();
    auto run = std::make_unique<pkv_run>(pkv_run{tape->context, tape->core, 0, false});
    run->place = context.take_place();
    *out = run.release();
  });
}

pkv_status pkv_run_finish(pkv_run* run) {
  return guarded([&] {
    require("run", run);
    if (run->finished) throw invalid_argument("run", "one that was not finished before", "one that was");
    run->finished = true;
    run->context->run(*run->tape, run->place);
  });
}

void pkv_run_destroy(pkv_run* run) {
  if (run == nullptr) return;
  if (!run->finished) run->context->skip(run->place);
  delete run;
}
