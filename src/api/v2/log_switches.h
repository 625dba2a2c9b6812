#pragma once
// The extension logging: the protocol's switches for kinds of messages, on top of a log that has one level.
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/v2/parameters.h"
#include "telemetry/log.h"

namespace tandem::api::v2 {

struct LogSwitches {
  bool info = true, warning = true, error = true;
  uint64_t verbose = 0;
};
LogSwitches SwitchesOf(LogLevel level);

// log_info, log_warning, log_error, log_verbose_level; log_format and log_file only as they are ("default", "").
// InvalidArgument for a wrong value, and for any other key.
absl::Status SetLogSwitch(std::string_view key, const ParameterValue& value, LogSwitches* switches);

// InvalidArgument for a kind that is off while a less severe one is on: one level cannot express it.
absl::StatusOr<LogLevel> LevelOf(const LogSwitches& switches);

}  // namespace tandem::api::v2
