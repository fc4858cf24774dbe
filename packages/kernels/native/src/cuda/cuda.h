// The operators of the CUDA backend: one function a verb, in the file of that name. Each only queues its work on the
// runtime's stream, so that a stream in capture turns them into a graph: no synchronisation and no allocation. Lengths,
// page tables and budgets are read by the kernels when they run; grids follow from a plan's capacities and the GPU alone.
#pragma once
#include <cuda_runtime.h>

#include <optional>

#include "core/operation.h"

namespace pkv::cuda {

struct Runtime {
  cudaStream_t stream;
  uint32_t multiprocessors;
  uint32_t compute_capability;  // 90 for 9.0; of the GPU, and of the code that it runs
  size_t shared_bytes;          // most shared memory of one block, beyond the 48 KiB that need no request
  std::optional<Verb> in_front; // what was queued last, where nothing can come in between: in a tape
};

void copy(Runtime&, const CopyParams&);

// Retrieval stages.
void append(Runtime&, const AppendParams&);
void probe(Runtime&, const ProbeParams&);
void collide(Runtime&, const StageParams&);
void select(Runtime&, const StageParams&);
void rerank(Runtime&, const StageParams&);
void attend(Runtime&, const AttendParams&);
void encode(Runtime&, const PageParams&);
// beside: other work runs at the same time.
void offload(Runtime&, const PageParams&, bool beside = false);
void commit(Runtime&, const PageParams&);
// Bytes of Plan::scratch that the stages above need. They rely on its being zeroed once, when the plan is made.
size_t plan_scratch_bytes(const Plan&);

// Dense operators, in cuda/dense/.
void embed(Runtime&, const EmbedParams&);
void rmsnorm(Runtime&, const RmsnormParams&);
void linear(Runtime&, const LinearParams&);
void rope(Runtime&, const RopeParams&);
void swiglu(Runtime&, const SwigluParams&);
void argmax(Runtime&, const ArgmaxParams&);
void attend_causal(Runtime&, const AttendCausalParams&);

}  // namespace pkv::cuda
