// The operators of the CPU backend: one function a verb, in the file of that name. Each runs to its end on the pool.
//
// Instruction sets: a verb that has faster versions keeps its innermost loops in a table of function pointers,
// `<verb>_kernels.h`, filled by `<verb>_portable.cpp`, `<verb>_avx2.cpp`, `<verb>_avx512.cpp`. CMake gives each file its
// flags by that suffix; those files hold no std:: templates, so that no weak symbol built for one set runs on another.
#pragma once
#include "core/operators.h"
#include "core/parallel.h"

namespace pkv::cpu {

// Those of one processor family from less to more: who lacks a version for the last takes that for the one before.
// avx512: F, BW, VL, DQ and VBMI. amx: the matrix unit, for bf16, beside avx512.
enum class Isa { portable, neon, avx2, avx512, amx };

struct Runtime {
  Parallel& pool;
  Isa isa;
};

// Retrieval stages.
void append(Runtime&, const AppendParams&);
void probe(Runtime&, const ProbeParams&);
void collide(Runtime&, const StageParams&);
void select(Runtime&, const StageParams&);
void rerank(Runtime&, const StageParams&);
void attend(Runtime&, const AttendParams&);
void encode(Runtime&, const PageParams&);
void offload(Runtime&, const PageParams&);
void commit(Runtime&, const PageParams&);
// Bytes of Plan::scratch that the stages above need.
size_t plan_scratch_bytes(const Plan&, unsigned threads);

// Dense operators, in cpu/dense/.
void embed(Runtime&, const EmbedParams&);
void rmsnorm(Runtime&, const RmsnormParams&);
void linear(Runtime&, const LinearParams&);
void rope(Runtime&, const RopeParams&);
void swiglu(Runtime&, const SwigluParams&);
void argmax(Runtime&, const ArgmaxParams&);
void attend_causal(Runtime&, const AttendCausalParams&);

}  // namespace pkv::cpu
