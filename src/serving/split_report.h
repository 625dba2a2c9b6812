#pragma once
// How a canary and a shadow do beside the version that serves.
#include <cstdint>
#include <string>

namespace tandem::serving {

// One side of a canary. Of the requests that named no version, since the split began. Microseconds from the decoded
// request to the answer, of answered requests. A request that was wrong, or whose client left, is no failure.
struct CanarySide {
  int32_t version = 0;
  uint64_t requests = 0;  // failures among them
  uint64_t failures = 0;
  double p99_us = 0;
};
struct CanaryReport {
  CanarySide champion, canary;
  double percent = 0;
  double seconds = 0;   // since the split began
  std::string problem;  // why no request goes to the canary; "" = they do
};

// Copies of the requests, run once the champion had answered; answers are compared element by element.
struct ShadowReport {
  int32_t champion = 0, shadow = 0;
  double percent = 0;
  double seconds = 0;                         // since it began
  uint64_t equal = 0, different = 0;          // within the tolerance of serving/comparison.h, or not
  uint64_t failed = 0;                        // the shadow gave an error
  uint64_t dropped = 0;                       // not run: the shadow was behind, or the request too large to keep
  uint64_t rows = 0, same_class = 0;          // of outputs [rows, classes]: compared, and with the same largest element
  double max_absolute = 0, max_relative = 0;  // the largest difference of all elements
  std::string problem;                        // why nothing is copied; "" = requests are
};

}  // namespace tandem::serving
