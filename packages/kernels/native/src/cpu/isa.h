// Which instruction set a CPU context uses.
#pragma once
#include "cpu/cpu.h"

namespace pkv::cpu {

const char* isa_name(Isa isa);
// Whether this build and this CPU have it.
bool isa_present(Isa isa);
// The one that is asked for by name, or with null the best present. Throws unavailable: never another one instead.
Isa choose_isa(const char* name);

}  // namespace pkv::cpu
