// The load file (declared in simulator.h).
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "scheduling/simulator.h"

namespace tandem::scheduling {
namespace {

constexpr double kMostRequestsPerS = 1e9;

absl::StatusOr<LoadPoint> ParsePoint(absl::string_view line) {
  const std::vector<std::string> fields = absl::StrSplit(line, ',');
  if (fields.size() != 4) {
    return InvalidArgument("has ", fields.size(), " fields, must have 4: ", LoadHeader());
  }
  LoadPoint point;
  point.model = fields[1];
  if (!absl::SimpleAtoi(fields[0], &point.unix_ms) || point.unix_ms < 0) {
    return InvalidArgument("unix_ms: '", fields[0], "' is not a time in milliseconds since 1970");
  }
  if (point.model.empty()) return InvalidArgument("model: is empty; write the model's name");
  auto number = [](const std::string& text, double most, double* value) {
    return absl::SimpleAtod(text, value) && std::isfinite(*value) && *value >= 0 && *value <= most;
  };
  if (!number(fields[2], kMostRequestsPerS, &point.requests_per_s)) {
    return InvalidArgument("requests_per_s: '", fields[2], "' is not a number from 0 to 1e9");
  }
  if (!number(fields[3], kMostServiceMs, &point.service_ms)) {
    return InvalidArgument("service_ms: '", fields[3], "' is not a number from 0 to 10000");
  }
  if (point.service_ms == 0 && point.requests_per_s > 0) {
    return InvalidArgument("service_ms: '", fields[3], "' although there are requests; write how long one computes");
  }
  return point;
}

}  // namespace

std::string LoadHeader() { return "unix_ms,model,requests_per_s,service_ms"; }

std::string ToCsv(const LoadPoint& point) {
  return absl::StrFormat("%d,%s,%.6g,%.6g", point.unix_ms, point.model, point.requests_per_s, point.service_ms);
}

absl::StatusOr<std::vector<LoadPoint>> ParseLoad(std::string_view csv, std::string_view source) {
  std::vector<LoadPoint> load;
  bool header_seen = false;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(AbslView(csv), '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    if (!header_seen) {
      if (StdView(line) != LoadHeader()) {
        return InvalidArgument(source, ":", number, ": the first line must be the header ", LoadHeader());
      }
      header_seen = true;
      continue;
    }
    absl::StatusOr<LoadPoint> point = ParsePoint(line);
    if (!point.ok()) return Annotate(point.status(), StrCat(source, ":", number));
    if (!load.empty() && point->unix_ms < load.back().unix_ms) {
      return InvalidArgument(source, ":", number, ": unix_ms: ", point->unix_ms, " is before the former line's ",
                             load.back().unix_ms, "; sort the lines by time");
    }
    load.push_back(*std::move(point));
  }
  if (load.empty()) return InvalidArgument(source, ": holds no load; tandem policy record writes such a file");
  return load;
}

}  // namespace tandem::scheduling
