#pragma once
// Whether a canary is given up: a pure rule over its figures.
#include <string>

#include "serving/split_report.h"
#include "spec/model_config.h"

namespace tandem::serving {

struct Verdict {
  enum class Kind {
    kWait,      // too few requests to say
    kKeep,      // within its bounds
    kRollBack,  // out of them
  };
  Kind kind = Kind::kWait;
  std::string reason;  // in words, with the figures; for kRollBack what the record should say
};

// Rolls back when the canary's share of failed requests is above the champion's by more than max_error_rate, or its p99
// is above max_p99_ratio times the champion's. Both are judged once the canary had min_requests; before that only a
// canary whose failures already break the bound whatever comes until then. The p99 is compared only when the champion
// had min_requests too.
Verdict Judge(const CanaryReport& report, const spec::CanaryConfig& bounds);

}  // namespace tandem::serving
