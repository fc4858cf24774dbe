// The GPU as a device. Operators are launches on one stream of the context, a tape is a graph of them. An offload outside a
// tape runs beside the tapes that follow it, up to the commit of its page (side_stream.h).
//
// Times: inside a graph no operator has a time of its own, so by default calls are counted and their time is 0. With
// PARISKV_CUDA_TIMES=1 operators are launched one by one, tapes and offloads too, each between two events.
#include "core/device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "cuda/device_memory.h"
#include "cuda/device_status.h"
#include "cuda/launch.h"
#include "cuda/side_stream.h"
#include "cuda/staging.h"
#include "cuda/stopwatch.h"
#include "cuda/time_read.h"

namespace pkv {
namespace cuda {
namespace {

// For its attributes alone: all kernels are made for the same architectures.
__global__ void any_kernel() {}

Runtime runtime_on(cudaStream_t stream) {
  const auto attribute = [](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, kDevice), "cudaDeviceGetAttribute");
    return static_cast<uint32_t>(value);
  };
  Runtime runtime{};
  runtime.stream = stream;
  runtime.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  // What the kernels were written out for may be less than what the GPU can do: then they have no clusters and no waits.
  cudaFuncAttributes kernel{};
  check(cudaFuncGetAttributes(&kernel, any_kernel), "cudaFuncGetAttributes");
  runtime.compute_capability =
      std::min(10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor),
               static_cast<uint32_t>(kernel.ptxVersion));
  runtime.shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return runtime;
}

void execute(Runtime& runtime, const Operation& operation) {
  const auto& params = operation.params;
  switch (operation.verb) {
    case Verb::copy: return copy(runtime, std::get<CopyParams>(params));
    case Verb::append: return append(runtime, std::get<AppendParams>(params));
    case Verb::probe: return probe(runtime, std::get<ProbeParams>(params));
    case Verb::collide: return collide(runtime, std::get<StageParams>(params));
    case Verb::select: return select(runtime, std::get<StageParams>(params));
    case Verb::rerank: return rerank(runtime, std::get<StageParams>(params));
    case Verb::attend: return attend(runtime, std::get<AttendParams>(params));
    case Verb::encode: return encode(runtime, std::get<PageParams>(params));
    case Verb::offload: return offload(runtime, std::get<PageParams>(params));
    case Verb::commit: return commit(runtime, std::get<PageParams>(params));
    case Verb::embed: return embed(runtime, std::get<EmbedParams>(params));
    case Verb::rmsnorm: return rmsnorm(runtime, std::get<RmsnormParams>(params));
    case Verb::linear: return linear(runtime, std::get<LinearParams>(params));
    case Verb::rope: return rope(runtime, std::get<RopeParams>(params));
    case Verb::swiglu: return swiglu(runtime, std::get<SwigluParams>(params));
    case Verb::argmax: return argmax(runtime, std::get<ArgmaxParams>(params));
    case Verb::attend_causal: return attend_causal(runtime, std::get<AttendCausalParams>(params));
  }
}

// Whether a tape with this verb may touch what an offload before it reads or writes, beside ring rows of new tokens.
bool moves_pages(const Operation& operation) {
  return operation.verb == Verb::offload || operation.verb == Verb::commit || operation.verb == Verb::copy;
}

struct GraphProgram final : Program {
  explicit GraphProgram(std::vector<Operation> operations)
      : operations(std::move(operations)),
        joins(std::any_of(this->operations.begin(), this->operations.end(), moves_pages)) {}
  ~GraphProgram() override {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
  }
  std::vector<Operation> operations;
  bool joins;
  cudaGraphExec_t executable = nullptr;
};

// The launches of some operators as a graph. They are captured on a stream where nothing runs, in the mode in which
// other threads, and first launches of a kernel, may call what they like meanwhile.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  }
  ~Capture() {
    if (!ended_) cudaStreamEndCapture(stream_, &graph_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
    cudaGetLastError();
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaGraphExec_t instantiate() {
    ended_ = true;
    check(cudaStreamEndCapture(stream_, &graph_), "cudaStreamEndCapture");
    cudaGraphExec_t executable = nullptr;
    check(cudaGraphInstantiate(&executable, graph_, 0), "cudaGraphInstantiate");
    return executable;
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  bool ended_ = false;
};

bool times_wanted() {
  const char* const value = std::getenv("PARISKV_CUDA_TIMES");
  return value != nullptr && std::strcmp(value, "1") == 0;
}

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(std::string detail)
      : detail_(std::move(detail)), runtime_(runtime_on(stream_)), memory_(stream_, side_), times_wanted_(times_wanted()) {
    const std::string& complaint = memory_.host_arena().complaint();
    if (!complaint.empty()) detail_ += ", host memory of cudaHostAlloc (" + complaint + ")";
  }
  ~CudaDevice() override {
    cudaStreamSynchronize(stream_);
    cudaStreamSynchronize(side_);
  }

  const char* name() const override { return "cuda"; }
  const std::string& detail() const override { return detail_; }

  uint8_t* allocate(size_t bytes, MemoryKind kind) override {
    settled_ = false;
    return memory_.allocate(bytes, kind);
  }
  uint64_t available_bytes(MemoryKind kind) const override { return DeviceMemory::available_bytes(kind); }
  void free(uint8_t* memory) noexcept override { memory_.free(memory); }
  void free_all() noexcept override { memory_.free_all(); }

  void write(uint8_t* to, const void* source, size_t bytes) override {
    if (memory_.is_host(to)) {
      settle();
      std::memcpy(to, source, bytes);
    } else {
      if (side_.may_read(to, bytes)) side_.join(stream_);
      settled_ = false;
      staging_.write(stream_, to, source, bytes);
    }
  }
  void read(const uint8_t* from, void* target, size_t bytes) override {
    if (memory_.is_host(from)) {
      settle();
      std::memcpy(target, from, bytes);
    } else {
      side_.join(stream_);
      check(cudaMemcpyAsync(target, from, bytes, cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync");
      synchronize();
    }
  }

  void run(const Operation& operation) override {
    settled_ = false;
    ++times_[static_cast<size_t>(operation.verb)].calls;
    if (operation.verb == Verb::offload && !times_wanted_) {
      const PageParams& params = std::get<PageParams>(operation.params);
      Runtime beside = runtime_;
      beside.stream = side_;
      return side_.run(stream_, params.cache->window, params.cache->window_bytes(), [&] { offload(beside, params, true); });
    }
    if (operation.verb != Verb::encode) side_.join(stream_);  // encode meets no records
    if (!times_wanted_) return execute(runtime_, operation);
    stopwatch_.time(stream_, operation.verb, [&] { execute(runtime_, operation); });
  }
  std::unique_ptr<Program> compile(std::vector<Operation> operations) override {
    auto program = std::make_unique<GraphProgram>(std::move(operations));
    if (program->operations.empty()) return program;
    Capture capture(capture_stream_);
    Runtime runtime = runtime_;
    runtime.stream = capture_stream_;
    for (const Operation& operation : program->operations) {
      execute(runtime, operation);
      runtime.in_front = operation.verb;
    }
    program->executable = capture.instantiate();
    settled_ = false;
    check(cudaGraphUpload(program->executable, stream_), "cudaGraphUpload");
    return program;
  }
  void run(Program& program) override {
    const GraphProgram& graph = static_cast<GraphProgram&>(program);
    if (times_wanted_) {
      for (const Operation& operation : graph.operations) run(operation);
    } else if (graph.executable != nullptr) {
      settled_ = false;
      if (graph.joins) side_.join(stream_);
      check(cudaGraphLaunch(graph.executable, stream_), "cudaGraphLaunch");
      for (const Operation& operation : graph.operations) ++times_[static_cast<size_t>(operation.verb)].calls;
    }
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");  // for the tape alone: an offload may go on
    settled_ = !side_.running();
  }
  void synchronize() override {
    side_.join(stream_);
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    settled_ = true;
  }
  size_t plan_scratch_bytes(const Plan& plan) const override { return cuda::plan_scratch_bytes(plan); }
  VerbTimes take_times() override {
    if (times_wanted_) stopwatch_.add_to(times_, stream_);
    return std::exchange(times_, {});
  }
  double time_read(const uint8_t* from, size_t bytes) override {
    settle();
    return cuda::time_read(runtime_, from, bytes);
  }

 private:
  // Waits for both streams unless nothing was queued since the last time.
  void settle() {
    if (!settled_) synchronize();
  }

  std::string detail_;
  Stream stream_, capture_stream_;
  SideStream side_;
  Runtime runtime_;
  DeviceMemory memory_;
  Staging staging_;
  Stopwatch stopwatch_;
  VerbTimes times_{};
  bool times_wanted_;
  bool settled_ = true;
};

}  // namespace
}  // namespace cuda

DeviceStatus cuda_status(const DeviceOptions&) { return cuda::device_status(); }

std::shared_ptr<Device> make_cuda_device(const DeviceOptions&) {
  DeviceStatus status = cuda::device_status();
  if (!status.available) throw unavailable("cuda", std::move(status.detail));
  return std::make_shared<cuda::CudaDevice>(std::move(status.detail));
}

}  // namespace pkv
