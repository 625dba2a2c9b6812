#include "tandem/bench_colocation.h"

#include <algorithm>
#include <cmath>

namespace tandem::cli {
namespace {

// Around the windows: a daemon that starts, jobs until they are steady, their end. As seen on two CPUs.
constexpr double kDaemonSeconds = 3, kJobsSeconds = 7, kAroundWindow = 0.7, kBytesSeconds = 40;

}  // namespace

const std::vector<ColocationMode>& ColocationModes() {
  static const std::vector<ColocationMode>* const kModes = new std::vector<ColocationMode>{
      {"alone", 0, false, true, "requests only"},
      {"alone_warm", 0, true, true, "requests only, the CPUs kept awake"},
      {"tandem", 1, false, true, "beside one training job, isolated"},
      {"tandem_2jobs", 2, false, true, "beside two training jobs, isolated"},
      {"unmanaged", 1, false, false, "beside one training job, all isolation off"},
  };
  return *kModes;
}

const ColocationMode* FindColocationMode(std::string_view name) {
  for (const ColocationMode& mode : ColocationModes()) {
    if (mode.name == name) return &mode;
  }
  return nullptr;
}

int64_t WindowRequests(const ColocationAmount& amount, double rate) {
  if (amount.requests > 0) return amount.requests;
  double beyond = amount.beyond_each ? amount.beyond : amount.beyond / amount.rounds;
  return static_cast<int64_t>(std::ceil(std::max(beyond * 100, rate * amount.window_s)));
}

double EstimateSeconds(const ColocationOptions& options, double capacity) {
  double round = 0;
  for (const ColocationMode* mode : options.modes) {
    round += kDaemonSeconds + (mode->jobs > 0 ? kJobsSeconds : 0);
    for (double load : options.loads) {
      double rate = capacity * load;
      round += static_cast<double>(WindowRequests(options.amount, rate)) / rate + kAroundWindow;
    }
  }
  return options.amount.rounds * round + (options.check_bytes ? kBytesSeconds : 0);
}

}  // namespace tandem::cli
