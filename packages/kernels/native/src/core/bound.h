// Caches and plans together with the memory that they point into.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "core/context.h"

namespace pkv {

constexpr size_t kPlanFields = 11;  // PKV_PLAN_FIELD_*

struct BoundCache {
  Cache view;
  std::vector<std::shared_ptr<Buffer>> buffers;
  std::array<float, PKV_MAX_HEAD_DIM> signs;
  std::array<float, PKV_MAGNITUDE_LEVELS> centres;
  std::array<float, PKV_MAGNITUDE_LEVELS - 1> thresholds;
};

struct BoundPlan {
  std::vector<Plan> layers;  // the workspaces as each layer sees them
  std::shared_ptr<BoundCache> cache;
  std::shared_ptr<Buffer> workspace;  // all fields, then the device's scratch
  std::array<size_t, kPlanFields> offsets;
};

}  // namespace pkv
