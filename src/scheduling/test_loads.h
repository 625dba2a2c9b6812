#pragma once
// Synthetic loads for the simulator's tests.
#include <cmath>
#include <string>
#include <vector>

#include "scheduling/simulator.h"
#include "scheduling/test_snapshots.h"

namespace tandem::scheduling {

constexpr int64_t kMinuteMs = 60'000, kHourMs = 3'600'000, kDayMs = 24 * kHourMs;
// Monday, midnight in Berlin.
inline int64_t Monday() { return At("2026-11-15T23:00:00Z"); }

// `rate(ms since the begin)` every `step_ms` for `long_ms`.
template <typename Rate>
std::vector<LoadPoint> LoadOf(const std::string& model, int64_t long_ms, int64_t step_ms, double service_ms,
                              Rate rate) {
  std::vector<LoadPoint> load;
  for (int64_t at = 0; at <= long_ms; at += step_ms) load.push_back({Monday() + at, model, rate(at), service_ms});
  return load;
}

inline std::vector<LoadPoint> ConstantLoad(double requests_per_s, double service_ms, int64_t long_ms) {
  return LoadOf("fashion", long_ms, long_ms, service_ms, [&](int64_t) { return requests_per_s; });
}

// 20 requests/s at night, 1,000 at noon, at 1 ms each.
inline std::vector<LoadPoint> DayAndNight(int days) {
  return LoadOf("fashion", days * kDayMs, 10 * kMinuteMs, 1, [](int64_t at) {
    const double phase = static_cast<double>(at % kDayMs) / kDayMs;
    return 20 + 980 * std::pow(std::sin(phase * M_PI), 4);
  });
}

// Two models in office hours, one of them heavy; silence otherwise and at the weekend.
inline std::vector<LoadPoint> OfficeWeek() {
  std::vector<LoadPoint> load;
  for (int64_t at = 0; at <= 7 * kDayMs; at += 15 * kMinuteMs) {
    const int64_t of_day = at % kDayMs;
    const bool office = at < 5 * kDayMs && of_day >= 8 * kHourMs && of_day < 18 * kHourMs;
    load.push_back({Monday() + at, "fashion", office ? 300.0 : 0, 0.8});
    load.push_back({Monday() + at, "speech", office ? 20.0 : 0, 30});
  }
  return load;
}

// Every minute ten seconds of ten times as many requests.
inline std::vector<LoadPoint> Bursts(int64_t minutes) {
  return LoadOf("fashion", minutes * kMinuteMs, 10'000, 0.5,
                [](int64_t at) { return at % kMinuteMs == 0 ? 3000.0 : 300.0; });
}

}  // namespace tandem::scheduling
