// What the conformance program prints: one line a group of cases, the first failures of each, and a closing line.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

namespace conformance {

class Report {
 public:
  // Runs the cases of a group; an exception is a failure.
  template <class Body>
  void group(const std::string& name, Body&& body) {
    name_ = name;
    group_passed_ = group_failed_ = 0;
    worst_ = 0;
    worst_what_.clear();
    try {
      body();
    } catch (const std::exception& error) {
      expect(false, error.what());
    }
    std::printf("%s %-64s %7zu passed", group_failed_ == 0 ? "ok  " : "FAIL", name.c_str(), group_passed_);
    if (group_failed_ > 0) std::printf(", %zu failed", group_failed_);
    if (worst_ > 0) std::printf("  worst error %.2f of what is allowed (%s)", worst_, worst_what_.c_str());
    std::printf("\n");
    std::fflush(stdout);
    passed_ += group_passed_;
    failed_ += group_failed_;
  }

  void expect(bool holds, const std::string& what) {
    ++(holds ? group_passed_ : group_failed_);
    constexpr size_t kPrinted = 5;
    if (!holds && group_failed_ <= kPrinted) std::printf("     %s: expected %s\n", name_.c_str(), what.c_str());
  }
  // The same bytes.
  template <class T>
  void same(const std::vector<T>& want, const std::vector<T>& got, const std::string& what) {
    same(want.data(), got.data(), want.size() == got.size() ? want.size() : 0, what);
    if (want.size() != got.size()) expect(false, what + " of the same length");
  }
  template <class T>
  void same(const T* want, const T* got, size_t count, const std::string& what) {
    size_t first = 0;
    while (first < count && std::memcmp(want + first, got + first, sizeof(T)) == 0) ++first;
    if (first == count) return expect(true, what);
    expect(false, what + " equal; element " + std::to_string(first) + " is " + text(got[first]) + " instead of " +
                      text(want[first]));
  }
  // |got - want| <= allowed for each; infinities and NaN must be the same.
  void close(const float* want, const float* got, size_t count, double allowed, const std::string& what) {
    for (size_t i = 0; i < count; ++i) {
      const bool both_nan = std::isnan(want[i]) && std::isnan(got[i]);
      if (want[i] == got[i] || both_nan) continue;
      const double share = std::fabs(static_cast<double>(got[i]) - want[i]) / allowed;
      if (!(share <= 1)) {
        return expect(false, what + " close; element " + std::to_string(i) + " is " + text(got[i]) + " instead of " +
                                 text(want[i]) + ", allowed " + text(allowed));
      }
      note(share, what);
    }
    expect(true, what);
  }
  // The distance of two vectors is at most `allowed` of the length of the wanted one.
  void close_vector(const float* want, const float* got, size_t count, double allowed, const std::string& what) {
    double squares = 0, differences = 0;
    bool finite = true;
    for (size_t i = 0; i < count; ++i) {
      if (!std::isfinite(want[i])) {  // must be as wrong as the CPU's
        finite = finite && (std::isnan(want[i]) ? std::isnan(got[i]) : want[i] == got[i]);
        continue;
      }
      squares += static_cast<double>(want[i]) * want[i];
      differences += (static_cast<double>(got[i]) - want[i]) * (static_cast<double>(got[i]) - want[i]);
    }
    const double share = differences == 0 ? 0 : std::sqrt(differences) / (allowed * std::sqrt(squares));
    const bool holds = finite && share <= 1;
    if (holds) note(share, what);
    expect(holds, what + " close; error " + text(share) + " of what is allowed");
  }

  // Prints the closing line and gives the exit code.
  int close_all() const {
    std::printf("%zu passed, %zu failed\n", passed_, failed_);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  static std::string text(double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%.9g", value);
    return text;
  }
  void note(double share, const std::string& what) {
    if (share <= worst_) return;
    worst_ = share;
    worst_what_ = what;
  }

  std::string name_, worst_what_;
  double worst_ = 0;
  size_t group_passed_ = 0, group_failed_ = 0, passed_ = 0, failed_ = 0;
};

// The groups of each file.
void test_device(Report&);
void test_dense(Report&);
void test_pages(Report&);
void test_stages(Report&);
void test_hot_set(Report&);
void test_quick(Report&);
void test_decode(Report&);
void test_far(Report&);
void test_quick_device(Report&);
void test_quick_dense(Report&);
void test_quick_pages(Report&);

}  // namespace conformance
