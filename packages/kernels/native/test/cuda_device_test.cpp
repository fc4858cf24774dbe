// The GPU as a device: memory of every kind, copies, tapes, refusals.
#include <algorithm>
#include <chrono>

#include "cuda_random.h"
#include "cuda_report.h"
#include "cuda_side.h"

namespace conformance {
namespace {

constexpr uint32_t kKinds[] = {PKV_MEMORY_DEVICE, PKV_MEMORY_PINNED, PKV_MEMORY_MAPPED};

std::vector<uint8_t> random_bytes(Random& random, size_t count) {
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.below(256));
  return bytes;
}

void test_memory(Report& report, const Side& side) {
  Random random(1);
  for (const uint32_t kind : kKinds) {
    const std::string name = "memory of kind " + std::to_string(kind);
    const size_t bytes = (size_t{40} << 20) + 3;  // several rounds of the staging memory
    const Buffer buffer = side.allocate(bytes, kind);
    report.expect(Side::address(buffer) % 64 == 0, name + " aligned to 64 bytes");
    report.same(std::vector<uint8_t>(bytes), Side::read<uint8_t>(buffer, bytes), name + " zeroed");
    std::vector<uint8_t> image(bytes);
    for (const size_t count : {size_t{1}, size_t{5}, size_t{4096}, (size_t{1} << 20) - 1, (size_t{20} << 20) + 7}) {
      const size_t offset = 11 * count % (bytes - count);
      const std::vector<uint8_t> part = random_bytes(random, count);
      Side::write(buffer, part, offset);
      std::copy(part.begin(), part.end(), image.begin() + static_cast<ptrdiff_t>(offset));
      report.same(part, Side::read<uint8_t>(buffer, count, offset), name + ": what was written");
    }
    report.same(image, Side::read<uint8_t>(buffer, bytes), name + ": the whole after all writes");
  }
}

// Memory that others have written and given back is zeroed again.
void test_used_memory(Report& report, const Side& side) {
  constexpr size_t kBytes = size_t{8} << 20;
  for (const uint32_t kind : kKinds) {
    for (int round = 0; round < 4; ++round) {
      const Buffer buffer = side.allocate(kBytes, kind);
      report.same(std::vector<uint8_t>(kBytes), Side::read<uint8_t>(buffer, kBytes),
                  "memory of kind " + std::to_string(kind) + " zeroed, round " + std::to_string(round));
      Side::write(buffer, std::vector<uint8_t>(kBytes, 0xa5));
    }
  }
}

void test_copies(Report& report, const Side& side) {
  Random random(2);
  constexpr size_t kBytes = 1 << 20;
  const std::vector<uint8_t> image = random_bytes(random, kBytes);
  for (const uint32_t from_kind : kKinds) {
    for (const uint32_t to_kind : kKinds) {
      const Buffer from = side.upload(image, from_kind);
      const Buffer to = side.allocate(kBytes, to_kind);
      std::vector<uint8_t> want(kBytes);
      const size_t cases[][3] = {{0, 0, kBytes / 2}, {16, 4096, 65536}, {4, 8, 1000}, {3, 70001, 5003}, {1, 1, 1}};
      for (const auto& [source, target, count] : cases) {
        const pkv_copy_params params = {{from.get(), source}, {to.get(), target}, count};
        side.run(source % 2 == 1, [&] { must(pkv_copy(side.context(), &params)); });
        std::copy_n(image.begin() + static_cast<ptrdiff_t>(source), count,
                    want.begin() + static_cast<ptrdiff_t>(target));
      }
      report.same(want, Side::read<uint8_t>(to, kBytes),
                  "a copy from kind " + std::to_string(from_kind) + " to kind " + std::to_string(to_kind));
    }
  }
  for (const size_t distance : {size_t{1}, size_t{16}, size_t{5000}}) {
    for (const bool forwards : {true, false}) {
      const Buffer buffer = side.upload(image);
      std::vector<uint8_t> want = image;
      const size_t from = forwards ? 0 : distance, to = forwards ? distance : 0, count = 50000;
      std::memmove(want.data() + to, image.data() + from, count);
      const pkv_copy_params params = {{buffer.get(), from}, {buffer.get(), to}, count};
      must(pkv_copy(side.context(), &params));
      report.same(want, Side::read<uint8_t>(buffer, kBytes),
                  "a copy onto itself at distance " + std::to_string(distance));
    }
  }
}

// Reading is timed with the whole device: faster than one core could, and not faster than any memory.
void test_read_times(Report& report, const Side& side) {
  for (const uint32_t kind : kKinds) {
    constexpr uint64_t kBytes = uint64_t{1} << 30;
    const Buffer buffer = side.allocate(kBytes, kind);
    double seconds = 0;
    must(pkv_buffer_time_read(buffer.get(), &seconds));
    const double gigabytes = kBytes / seconds / 1e9;
    std::printf("     memory of kind %u is read at %.0f GB/s\n", kind, gigabytes);
    report.expect(gigabytes > 1 && gigabytes < 20000, "a time to read that can be");
  }
}

// Writes, immediate operators and tapes keep the order in which they were asked for.
void test_order(Report& report, const Side& side) {
  const Buffer first = side.allocate(4096), second = side.allocate(4096),
               third = side.allocate(4096, PKV_MEMORY_MAPPED);
  const pkv_copy_params one = {{first.get(), 0}, {second.get(), 0}, 4096},
                        two = {{second.get(), 0}, {third.get(), 0}, 4096};
  const Owned<pkv_tape> tape = side.record([&] {
    must(pkv_copy(side.context(), &one));
    must(pkv_copy(side.context(), &two));
  });
  bool holds = true, holds_immediately = true;
  for (uint32_t round = 0; round < 300; ++round) {
    Side::write(first, std::vector<uint32_t>(1024, round));
    must(pkv_tape_run(tape.get()));
    holds = holds && Side::read<uint32_t>(third, 1, 4092)[0] == round;
    Side::write(first, std::vector<uint32_t>(1024, ~round));
    must(pkv_copy(side.context(), &one));
    Side::write(first, std::vector<uint32_t>(1024, 7));  // after the copy, so it must not reach `second`
    must(pkv_copy(side.context(), &two));
    holds_immediately = holds_immediately && Side::read<uint32_t>(third, 1, 4092)[0] == ~round;
  }
  report.expect(holds, "tapes to see the writes before them");
  report.expect(holds_immediately, "operators to see the writes before them and none after");

  const Owned<pkv_tape> empty = side.record([] {});
  report.expect(pkv_tape_run(empty.get()) == PKV_OK, "an empty tape to run");
  pkv_run* run = nullptr;
  must(pkv_tape_submit(tape.get(), &run));
  report.expect(pkv_run_finish(run) == PKV_OK, "a submitted tape to run");
  pkv_run_destroy(run);
}

uint64_t available_bytes(const Side& side, uint32_t kind) {
  uint64_t bytes = 0;
  must(pkv_available_bytes(side.context(), kind, &bytes));
  return bytes;
}

// Page-locked memory comes in large pieces, and quickly.
void test_arenas(Report& report, const Side& side) {
  for (const uint32_t kind : {PKV_MEMORY_PINNED, PKV_MEMORY_MAPPED}) {
    constexpr uint64_t kBytes = uint64_t{4} << 30;
    report.expect(available_bytes(side, kind) > kBytes, "sane bytes of host memory");
    const auto start = std::chrono::steady_clock::now();
    const Buffer buffer = side.allocate(kBytes + 1, kind);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("     memory of kind %u is made at %.1f GB/s\n", kind, kBytes / seconds / 1e9);
    const std::vector<uint8_t> ends = {Side::read<uint8_t>(buffer, 1)[0], Side::read<uint8_t>(buffer, 1, kBytes)[0]};
    report.same(std::vector<uint8_t>(2), ends, "a large piece zeroed");
  }
}

// Buffers until the device has no more, as a large cache would ask for them: the refusal has both numbers, the context
// works on, and everything comes back.
void test_exhaustion(Report& report, const Side& side) {
  constexpr uint64_t kNoiseBytes = uint64_t{64} << 20;  // what others and the driver may take meanwhile
  const uint64_t before = available_bytes(side, PKV_MEMORY_DEVICE);
  report.expect(before > (uint64_t{1} << 30) && before < (uint64_t{1} << 40), "sane bytes of device memory");
  {
    std::vector<Buffer> held;
    const uint64_t piece_bytes = before / 9 * 2;  // four and a half times in all
    pkv_buffer* more = nullptr;
    while (held.size() < 10 && pkv_buffer_create(side.context(), piece_bytes, PKV_MEMORY_DEVICE, &more) == PKV_OK) {
      held.emplace_back(more);
    }
    pkv_error error;
    pkv_last_error(&error);
    report.expect(held.size() == 4, "as many pieces as there is room for");
    report.expect(error.status == PKV_OUT_OF_MEMORY && error.requested_bytes == piece_bytes &&
                      error.available_bytes < piece_bytes && std::strcmp(error.argument, "device") == 0,
                  "the piece too many refused with its kind and both numbers");
    const Buffer small = side.allocate(4096);
    const std::vector<uint32_t> values(1024, 0x5eed);
    Side::write(small, values);
    const pkv_copy_params copy = {{small.get(), 0}, {held[0].get(), piece_bytes - 4096}, 4096};
    side.run(true, [&] { must(pkv_copy(side.context(), &copy)); });
    report.same(values, Side::read<uint32_t>(held[0], 1024, piece_bytes - 4096), "a full device that works on");
  }
  const uint64_t after = available_bytes(side, PKV_MEMORY_DEVICE);
  report.expect(after + kNoiseBytes > before, "everything given back");
}

void test_refusals(Report& report, const Side& side) {
  for (const uint32_t kind : kKinds) {
    for (const uint64_t bytes : {UINT64_MAX / 2, uint64_t{4} << 40}) {
      pkv_buffer* absurd = nullptr;
      pkv_error error;
      const bool refused = pkv_buffer_create(side.context(), bytes, kind, &absurd) == PKV_OUT_OF_MEMORY;
      pkv_last_error(&error);
      report.expect(
          refused && error.requested_bytes == bytes && error.available_bytes > 0 && error.available_bytes < bytes,
          "too much memory of kind " + std::to_string(kind) + " refused with both numbers");
    }
  }
  // Nothing of what was refused is kept: a gigabyte can be had and given back again and again.
  for (int round = 0; round < 20; ++round) side.allocate(uint64_t{1} << 30);
  report.expect(true, "memory given back");

  // A window that vectors cannot reach is refused when it is used, and the context works on.
  std::vector<float> codec(79, 1.0f);
  const Buffer buffer = side.allocate(1 << 20);
  pkv_cache_params params = {};
  params.layers = params.kv_heads = params.query_group = params.slots = params.max_pages = params.page_capacity = 1;
  params.head_dim = 64;
  params.kv_dtype = PKV_DTYPE_BF16;
  params.ring_tokens = 512;
  for (pkv_ref* ref : {&params.zone_tokens, &params.page_table, &params.page_address, &params.window,
                       &params.invalid_keys, &params.budget, &params.calibration}) {
    ref->buffer = buffer.get();
  }
  params.window.offset_bytes = 1026;
  params.signs = params.centres = params.thresholds = codec.data();
  pkv_cache* created = nullptr;
  must(pkv_cache_create(side.context(), &params, &created));
  const Owned<pkv_cache> cache(created);
  const pkv_page_params page = {cache.get(), 0, 0, 0};
  report.expect(pkv_offload(side.context(), &page) == PKV_INVALID_ARGUMENT, "a window at an odd address refused");
  must(pkv_record_begin(side.context()));
  must(pkv_offload(side.context(), &page));
  pkv_tape* tape = nullptr;
  report.expect(pkv_record_end(side.context(), &tape) == PKV_INVALID_ARGUMENT, "the same refused when a tape is made");
  report.expect(pkv_context_synchronize(side.context()) == PKV_OK, "the context to work on after a refusal");
}

void test_lives(Report& report) {
  auto side = std::make_unique<Side>(PKV_CUDA);
  Side other(PKV_CUDA);
  Buffer buffer = side->allocate(64), same = other.allocate(64);
  const pkv_copy_params params = {{buffer.get(), 0}, {buffer.get(), 32}, 32};
  Owned<pkv_tape> tape = side->record([&] { must(pkv_copy(side->context(), &params)); });
  pkv_verb_time times[64];
  must(pkv_take_times(side->context(), times));
  must(pkv_tape_run(tape.get()));
  must(pkv_take_times(side->context(), times));
  report.expect(std::strcmp(times[0].verb, "copy") == 0 && times[0].calls == 1, "the calls of a tape counted");
  const pkv_copy_params foreign = {{same.get(), 0}, {same.get(), 32}, 32};
  report.expect(pkv_copy(side->context(), &foreign) == PKV_INVALID_ARGUMENT, "a buffer of another context refused");
  side.reset();
  report.expect(pkv_tape_run(tape.get()) == PKV_DISPOSED, "a tape to end with its context");
  uint8_t byte = 1;
  report.expect(pkv_buffer_write(buffer.get(), 0, &byte, 1) == PKV_DISPOSED, "memory to end with its context");
  report.expect(pkv_buffer_write(same.get(), 0, &byte, 1) == PKV_OK, "another context to live on");
}

}  // namespace

void test_device(Report& report) {
  const Side side(PKV_CUDA);
  report.group("device: memory of three kinds", [&] {
    test_memory(report, side);
    test_used_memory(report, side);
  });
  report.group("device: copies between them, aligned or not", [&] { test_copies(report, side); });
  report.group("device: time to read", [&] { test_read_times(report, side); });
  report.group("device: page-locked memory in large pieces", [&] { test_arenas(report, side); });
  report.group("device: no more memory", [&] { test_exhaustion(report, side); });
  report.group("device: order of writes, operators and tapes", [&] { test_order(report, side); });
  report.group("device: refusals", [&] { test_refusals(report, side); });
  report.group("device: contexts and handles", [&] { test_lives(report); });
}

void test_quick_device(Report& report) {
  const Side side(PKV_CUDA);
  report.group("quick: copies and reads", [&] {
    test_copies(report, side);
    test_read_times(report, side);
  });
}

}  // namespace conformance
