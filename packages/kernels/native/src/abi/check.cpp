#include "abi/check.h"

namespace pkv::abi {

uint32_t require_range(const char* argument, uint64_t value, uint64_t min, uint64_t max) {
  if (value < min || value > max) {
    throw invalid_argument(argument, "an integer in " + std::to_string(min) + ".." + std::to_string(max),
                           std::to_string(value));
  }
  return static_cast<uint32_t>(value);
}

uint32_t require_one_of(const char* argument, uint32_t value, std::initializer_list<uint32_t> allowed) {
  std::string names;
  for (const uint32_t candidate : allowed) {
    if (candidate == value) return value;
    names += (names.empty() ? "" : " or ") + std::to_string(candidate);
  }
  throw invalid_argument(argument, names, std::to_string(value));
}

Dtype require_dtype(const char* argument, uint32_t value) {
  return static_cast<Dtype>(require_one_of(argument, value, {PKV_DTYPE_F32, PKV_DTYPE_BF16, PKV_DTYPE_F16}));
}

uint64_t product(std::initializer_list<uint64_t> factors) {
  uint64_t result = 1;
  for (const uint64_t factor : factors) {
    if (factor != 0 && result > UINT64_MAX / factor) return UINT64_MAX;
    result *= factor;
  }
  return result;
}

Resolver::Resolver(const std::shared_ptr<Context>& context) : context_(context) { context->require_open(); }

uint8_t* Resolver::place(const char* argument, pkv_buffer* buffer, uint64_t offset_bytes, uint64_t bytes,
                         size_t align_bytes) {
  if (buffer == nullptr) throw invalid_argument(std::string(argument) + ".buffer", "set", "NULL");
  if (buffer->context != context_) {
    throw invalid_argument(std::string(argument) + ".buffer", "a buffer of this context", "one of another context");
  }
  const uint64_t buffer_bytes = buffer->core->bytes();
  if (offset_bytes % align_bytes != 0) {
    throw invalid_argument(std::string(argument) + ".offset_bytes", "a multiple of " + std::to_string(align_bytes),
                           std::to_string(offset_bytes));
  }
  if (offset_bytes > buffer_bytes || bytes > buffer_bytes - offset_bytes) {
    throw invalid_argument(argument, std::to_string(bytes) + " bytes inside its buffer",
                           std::to_string(offset_bytes > buffer_bytes ? 0 : buffer_bytes - offset_bytes) + " bytes");
  }
  keeps_.push_back(buffer->core);
  buffers_.push_back(buffer->core);
  return buffer->core->data() + offset_bytes;
}

Rows Resolver::rows(const char* argument, const pkv_rows& rows, uint32_t row_count, uint64_t width) {
  if (rows.row_stride < width) {
    throw invalid_argument(std::string(argument) + ".row_stride", "at least " + std::to_string(width),
                           std::to_string(rows.row_stride));
  }
  // The last row needs no stride behind it; width <= row_stride keeps the difference from wrapping.
  const uint64_t whole = product({row_count, rows.row_stride, sizeof(float)});
  const uint64_t bytes = whole == UINT64_MAX ? whole : whole - (rows.row_stride - width) * sizeof(float);
  uint8_t* data = place(argument, rows.buffer, rows.offset_bytes, bytes, alignof(float));
  return {reinterpret_cast<float*>(data), static_cast<size_t>(rows.row_stride)};
}

Step Resolver::step(const pkv_step& step, uint32_t max_rows) {
  const uint32_t row_count = require_range("step.row_count", step.row_count, 1, max_rows);
  const uint64_t bytes = product({row_count, PKV_ROW_FIELDS, sizeof(int32_t)});
  return {at<int32_t>("step.table", step.table, bytes), row_count};
}

const Cache& Resolver::cache(pkv_cache* cache) {
  require("cache", cache);
  if (cache->context != context_) throw invalid_argument("cache", "one of this context", "one of another context");
  keeps_.push_back(cache->core);
  return cache->core->view;
}

const Plan& Resolver::plan(pkv_plan* plan, uint32_t layer) {
  require("plan", plan);
  if (plan->context != context_) throw invalid_argument("plan", "one of this context", "one of another context");
  keeps_.push_back(plan->core);
  const std::vector<Plan>& layers = plan->core->layers;
  return layers[require_range("layer", layer, 0, static_cast<uint32_t>(layers.size() - 1))];
}

const void* Resolver::weight(const char* argument, const pkv_ref& ref, Dtype dtype, uint64_t elements) {
  const size_t element_bytes = dtype_bytes(dtype);
  return place(argument, ref.buffer, ref.offset_bytes, product({elements, element_bytes}), element_bytes);
}

}  // namespace pkv::abi
