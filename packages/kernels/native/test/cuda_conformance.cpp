// The CUDA backend against the CPU backend, through the C interface, on the same inputs: every operator, whole decode
// steps, memory and tapes. Needs a GPU and no Node. Prints a line a group of cases and closes with "N passed, N
// failed". Arguments: names of the parts to run (device, dense, pages, stages, hot, decode, far); without any, all of these.
// `quick` is for sanitizers: every stage at small and odd sizes.
#include <algorithm>

#include "cuda_report.h"
#include "cuda_side.h"

using namespace conformance;

int main(int argc, char** argv) {
  const pkv_context_options options = {PKV_CUDA, 0, nullptr};
  pkv_device_status status;
  must(pkv_probe_device(&options, &status));
  std::printf("cuda: %s\n", status.detail);
  if (status.available == 0) {
    std::printf("0 passed, 0 failed\n");
    return 1;  // whoever runs this program has a GPU
  }
  const struct {
    const char* name;
    void (*test)(Report&);
  } parts[] = {{"device", test_device}, {"dense", test_dense}, {"pages", test_pages}, {"stages", test_stages},
               {"hot", test_hot_set}, {"decode", test_decode}, {"far", test_far}, {"quick", test_quick}};
  Report report;
  for (const auto& part : parts) {
    const auto is_named = [&](const char* argument) { return std::strcmp(argument, part.name) == 0; };
    const bool is_named_only = std::strcmp(part.name, "quick") == 0;
    if ((argc == 1 && !is_named_only) || std::any_of(argv + 1, argv + argc, is_named)) part.test(report);
  }
  return report.close_all();
}
