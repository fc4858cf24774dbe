// The CPU as a device: operators run at once on a thread pool, a tape is a list of them.
#include "core/device.h"

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "cpu/cpu.h"
#include "core/host_limits.h"
#include "cpu/host_memory.h"
#include "cpu/isa.h"
#include "cpu/pool.h"
#include "cpu/time_read.h"

namespace pkv {
namespace cpu {
namespace {

struct OperationList final : Program {
  explicit OperationList(std::vector<Operation> operations) : operations(std::move(operations)) {}
  std::vector<Operation> operations;
};

struct Choice {
  Isa isa;
  unsigned threads;
  std::string detail;
};

Choice choose(const DeviceOptions& options) {
  const char* name = options.isa != nullptr ? options.isa : std::getenv("PARISKV_CPU_ISA");
  if (name != nullptr && *name == '\0') name = nullptr;  // set to nothing is not set
  Choice choice{choose_isa(name), options.threads != 0 ? options.threads : usable_cores(), ""};
  choice.detail = isa_name(choice.isa) + std::string(", ") + std::to_string(choice.threads) +
                  (choice.threads == 1 ? " thread" : " threads");
  return choice;
}

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(Choice choice)
      : detail_(std::move(choice.detail)), pool_(choice.threads), runtime_{pool_, choice.isa} {}

  const char* name() const override { return "cpu"; }
  const std::string& detail() const override { return detail_; }

  uint64_t available_bytes(MemoryKind) const override { return available_memory_bytes(); }
  uint8_t* allocate(size_t bytes, MemoryKind kind) override { return memory_.allocate(bytes, kind); }
  void free(uint8_t* memory) noexcept override { memory_.free(memory); }
  void free_all() noexcept override { memory_.free_all(); }
  void write(uint8_t* to, const void* source, size_t bytes) override { std::memcpy(to, source, bytes); }
  void read(const uint8_t* from, void* target, size_t bytes) override { std::memcpy(target, from, bytes); }

  void run(const Operation& operation) override {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    execute(operation);
    VerbTime& time = times_[static_cast<size_t>(operation.verb)];
    ++time.calls;
    time.nanoseconds += std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
  }
  std::unique_ptr<Program> compile(std::vector<Operation> operations) override {
    return std::make_unique<OperationList>(std::move(operations));
  }
  void run(Program& program) override {
    for (const Operation& operation : static_cast<OperationList&>(program).operations) run(operation);
  }
  void synchronize() override {}
  size_t plan_scratch_bytes(const Plan& plan) const override {
    return cpu::plan_scratch_bytes(plan, pool_.threads());
  }
  VerbTimes take_times() override { return std::exchange(times_, {}); }
  double time_read(const uint8_t* from, size_t bytes) override { return cpu::time_read(pool_, from, bytes); }

 private:
  void execute(const Operation& operation) {
    const auto& params = operation.params;
    switch (operation.verb) {
      case Verb::copy: {
        const auto& [from, to, bytes] = std::get<CopyParams>(params);
        std::memmove(to, from, bytes);
        return;
      }
      case Verb::append: return append(runtime_, std::get<AppendParams>(params));
      case Verb::probe: return probe(runtime_, std::get<ProbeParams>(params));
      case Verb::collide: return collide(runtime_, std::get<StageParams>(params));
      case Verb::select: return select(runtime_, std::get<StageParams>(params));
      case Verb::rerank: return rerank(runtime_, std::get<StageParams>(params));
      case Verb::attend: return attend(runtime_, std::get<AttendParams>(params));
      case Verb::encode: return encode(runtime_, std::get<PageParams>(params));
      case Verb::offload: return offload(runtime_, std::get<PageParams>(params));
      case Verb::commit: return commit(runtime_, std::get<PageParams>(params));
      case Verb::embed: return embed(runtime_, std::get<EmbedParams>(params));
      case Verb::rmsnorm: return rmsnorm(runtime_, std::get<RmsnormParams>(params));
      case Verb::linear: return linear(runtime_, std::get<LinearParams>(params));
      case Verb::rope: return rope(runtime_, std::get<RopeParams>(params));
      case Verb::swiglu: return swiglu(runtime_, std::get<SwigluParams>(params));
      case Verb::argmax: return argmax(runtime_, std::get<ArgmaxParams>(params));
      case Verb::attend_causal: return attend_causal(runtime_, std::get<AttendCausalParams>(params));
    }
  }

  std::string detail_;
  HostMemory memory_;
  Pool pool_;
  Runtime runtime_;
  VerbTimes times_{};
};

}  // namespace
}  // namespace cpu

DeviceStatus cpu_status(const DeviceOptions& options) {
  try {
    return {true, cpu::choose(options).detail};
  } catch (const Error& error) {
    return {false, error.received};
  }
}

std::shared_ptr<Device> make_cpu_device(const DeviceOptions& options) {
  return std::make_shared<cpu::CpuDevice>(cpu::choose(options));
}

}  // namespace pkv
