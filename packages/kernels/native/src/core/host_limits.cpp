#include "core/host_limits.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace pkv {
namespace {

#if defined(__linux__)

// The first number in a file, or `otherwise` when there is none ("max").
double read_number(const std::string& path, double otherwise) {
  std::ifstream file(path);
  double value;
  return file >> value ? value : otherwise;
}

// The value behind a key such as "MemAvailable:" in a file of "key value" lines.
double read_field(const std::string& path, const std::string& key, double otherwise) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    double value;
    if (word == key && file >> value) return value;
  }
  return otherwise;
}

// The directories of this process's control groups, innermost first, for one controller; version 2 has a single tree.
std::vector<std::string> control_groups(const std::string& controller) {
  std::vector<std::string> directories;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:memory:/path", and "0::/path" in version 2
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool unified = names == ",,";
    if (!unified && names.find("," + controller + ",") == std::string::npos) continue;
    const std::string tree = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controller;
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    for (;;) {  // a limit of an outer group counts as well
      directories.push_back(tree + path);
      if (path.empty()) break;
      path.erase(path.rfind('/'));
    }
  }
  return directories;
}

#endif

}  // namespace

unsigned usable_cores() {
  double cores = std::max(1u, std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  for (const std::string& directory : control_groups("cpu")) {
    double quota = -1, period = 100000;
    std::ifstream file(directory + "/cpu.max");  // "200000 100000", or "max 100000"
    if (file) {
      if (!(file >> quota >> period)) quota = -1;
    } else {
      quota = read_number(directory + "/cpu.cfs_quota_us", -1);
      period = read_number(directory + "/cpu.cfs_period_us", period);
    }
    if (quota > 0 && period > 0) cores = std::min(cores, std::max(1.0, std::ceil(quota / period)));
  }
#endif
  return static_cast<unsigned>(cores);
}

uint64_t available_memory_bytes() {
#if defined(__linux__)
  constexpr double kUnknown = 1e18;
  double available = read_field("/proc/meminfo", "MemAvailable:", kUnknown / 1024) * 1024;
  for (const std::string& directory : control_groups("memory")) {
    const bool unified = static_cast<bool>(std::ifstream(directory + "/memory.max"));
    const double limit = read_number(directory + (unified ? "/memory.max" : "/memory.limit_in_bytes"), kUnknown);
    const double used = read_number(directory + (unified ? "/memory.current" : "/memory.usage_in_bytes"), 0);
    // Cached file pages that nobody used lately are counted as used but are given up on demand.
    const double cached =
        read_field(directory + "/memory.stat", unified ? "inactive_file" : "total_inactive_file", 0);
    available = std::min(available, limit - std::max(0.0, used - cached));
  }
  return available >= kUnknown ? UINT64_MAX : static_cast<uint64_t>(std::max(0.0, available));
#else
  return UINT64_MAX;
#endif
}

}  // namespace pkv
