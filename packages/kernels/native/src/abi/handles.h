// What the opaque handles of pkv.h are: a share of a core object and of its context.
#pragma once
#include <memory>

#include "core/bound.h"
#include "core/context.h"
#include "pkv.h"

struct pkv_context {
  std::shared_ptr<pkv::Context> core;
};
struct pkv_buffer {
  std::shared_ptr<pkv::Context> context;
  std::shared_ptr<pkv::Buffer> core;
};
struct pkv_cache {
  std::shared_ptr<pkv::Context> context;
  std::shared_ptr<pkv::BoundCache> core;
};
struct pkv_plan {
  std::shared_ptr<pkv::Context> context;
  std::shared_ptr<pkv::BoundPlan> core;
};
struct pkv_tape {
  std::shared_ptr<pkv::Context> context;
  std::shared_ptr<pkv::Tape> core;
};
struct pkv_run {
  std::shared_ptr<pkv::Context> context;
  std::shared_ptr<pkv::Tape> tape;
  uint64_t place;
  bool finished;
};
