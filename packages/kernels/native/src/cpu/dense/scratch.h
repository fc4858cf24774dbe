// Memory of one thread that grows to the largest request and is then reused. For drivers only (see cpu.h).
#pragma once
#include <cstddef>
#include <memory>
#include <new>

namespace pkv::cpu {

class Scratch {
 public:
  // At least `count` floats at a multiple of 64 bytes; what was there is lost when it grows. Throws std::bad_alloc.
  float* floats(size_t count) {
    if (count > count_) {
      memory_.reset();
      count_ = 0;
      memory_.reset(static_cast<float*>(::operator new(count * sizeof(float), kAlign)));
      count_ = count;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kAlign{64};
  struct Free {
    void operator()(float* memory) const { ::operator delete(memory, kAlign); }
  };
  std::unique_ptr<float, Free> memory_;
  size_t count_ = 0;
};

}  // namespace pkv::cpu
