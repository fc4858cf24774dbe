#include "cpu/isa.h"

#include <cstring>
#include <string>

#include "core/error.h"

namespace pkv::cpu {
namespace {

constexpr Isa kBestFirst[] = {Isa::avx512, Isa::avx2, Isa::portable};

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::portable: return "portable";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::neon: return "neon";
  }
  return "portable";
}

bool isa_present(Isa isa) {
  if (isa == Isa::portable) return true;
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == Isa::avx2) return avx2;
  if (isa == Isa::avx512) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vbmi");
  }
#endif
  return false;
}

Isa choose_isa(const char* name) {
  for (const Isa isa : kBestFirst) {
    if (name != nullptr && std::strcmp(name, isa_name(isa)) != 0) continue;
    if (isa_present(isa)) return isa;
    if (name != nullptr) throw unavailable("cpu", "a CPU or a build without " + std::string(name));
  }
  throw unavailable("cpu", "the unknown instruction set \"" + std::string(name) + "\" (portable, avx2 or avx512)");
}

}  // namespace pkv::cpu
