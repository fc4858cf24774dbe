// Numbers that look random and are the same on every machine.
#pragma once
#include <cstdint>

class Numbers {
 public:
  explicit Numbers(uint32_t seed) : state_(seed) {}

  uint32_t below(uint32_t limit) {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<uint32_t>(uint64_t{state_} * limit >> 32);
  }

 private:
  uint32_t state_;
};
