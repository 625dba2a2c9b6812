#include "serving/canary_rule.h"

#include <algorithm>
#include <cstdio>

#include "base/strings.h"

namespace tandem::serving {
namespace {

std::string Fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

double Rate(const CanarySide& side, uint64_t requests) {
  return requests == 0 ? 0 : static_cast<double>(side.failures) / static_cast<double>(requests);
}

std::string Failures(const CanarySide& side) {
  return StrCat("version ", side.version, " failed ", side.failures, " of ", side.requests, " requests");
}

}  // namespace

Verdict Judge(const CanaryReport& report, const spec::CanaryConfig& bounds) {
  using enum Verdict::Kind;
  const CanarySide &canary = report.canary, &champion = report.champion;
  const uint64_t enough = std::max(bounds.min_requests, 1);
  const double champion_rate = Rate(champion, champion.requests);
  // Fewer requests than `enough` count as if the rest of them went well.
  const double canary_rate = Rate(canary, std::max(canary.requests, enough));
  if (canary_rate - champion_rate > bounds.max_error_rate) {
    return {kRollBack, StrCat("canary ", Failures(canary), "; ", Failures(champion), "; at most ",
                              Fixed(bounds.max_error_rate * 100, 2), " % more may fail")};
  }
  if (canary.requests < enough) {
    return {kWait, StrCat("canary version ", canary.version, " had ", canary.requests, " of the ", enough,
                          " requests that it is judged by")};
  }
  std::string p99 = StrCat("p99 of canary version ", canary.version, " is ", Fixed(canary.p99_us / 1000, 3),
                           " ms, of version ", champion.version, " ", Fixed(champion.p99_us / 1000, 3), " ms");
  if (champion.requests >= enough && champion.p99_us > 0 && canary.p99_us > champion.p99_us * bounds.max_p99_ratio) {
    return {kRollBack, StrCat(p99, "; at most ", Fixed(bounds.max_p99_ratio, 2), " times as long is allowed")};
  }
  return {kKeep, StrCat(p99, "; ", Failures(canary), "; ", Failures(champion))};
}

}  // namespace tandem::serving
