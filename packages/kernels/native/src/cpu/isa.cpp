#include "cpu/isa.h"

#include <cstring>
#include <string>

#include "core/error.h"

#if defined(PARISKV_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pkv::cpu {
namespace {

constexpr Isa kBestFirst[] = {Isa::amx, Isa::avx512, Isa::avx2, Isa::portable};

#if defined(PARISKV_AMX)

// Whether the processor has the matrix unit and the system lets this process use it. Linux wants to be asked once.
bool amx_granted() {
  static const bool granted = [] {
    constexpr unsigned kLeaf = 7, kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, since Linux 5.16
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid_count(kLeaf, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
    if ((edx & kAmxBf16) == 0 || (edx & kAmxTile) == 0) return false;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return granted;
}

#endif

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::portable: return "portable";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::amx: return "amx";
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
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vbmi");
  if (isa == Isa::avx512) return avx512;
#if defined(PARISKV_AMX)
  if (isa == Isa::amx) return avx512 && amx_granted();
#endif
#endif
  return false;
}

Isa choose_isa(const char* name) {
  for (const Isa isa : kBestFirst) {
    if (name != nullptr && std::strcmp(name, isa_name(isa)) != 0) continue;
    if (isa_present(isa)) return isa;
    if (name != nullptr) throw unavailable("cpu", "a CPU or a build without " + std::string(name));
  }
  throw unavailable("cpu", "the unknown instruction set \"" + std::string(name) + "\" (portable, avx2, avx512 or amx)");
}

}  // namespace pkv::cpu
