#include "api/v2/log_switches.h"

#include <limits>

#include "base/status.h"

namespace tandem::api::v2 {

LogSwitches SwitchesOf(LogLevel level) {
  return {.info = level <= LogLevel::kInfo,
          .warning = level <= LogLevel::kWarning,
          .error = true,
          .verbose = level == LogLevel::kDebug ? uint64_t{1} : 0};
}

absl::Status SetLogSwitch(std::string_view key, const ParameterValue& value, LogSwitches* switches) {
  if (key == "log_info") {
    TANDEM_ASSIGN_OR_RETURN(switches->info, BoolOf(key, value));
  } else if (key == "log_warning") {
    TANDEM_ASSIGN_OR_RETURN(switches->warning, BoolOf(key, value));
  } else if (key == "log_error") {
    TANDEM_ASSIGN_OR_RETURN(switches->error, BoolOf(key, value));
  } else if (key == "log_verbose_level") {
    TANDEM_ASSIGN_OR_RETURN(switches->verbose, CountOf(key, value, std::numeric_limits<uint32_t>::max()));
  } else if (key == "log_format" || key == "log_file") {
    TANDEM_ASSIGN_OR_RETURN(std::string_view text, TextOf(key, value));
    if (text != (key == "log_format" ? "default" : "")) {
      return InvalidArgument("parameter '", key, "' cannot be changed while the server runs; it is set at its start");
    }
  } else {
    return InvalidArgument("log setting '", key, "' is unknown; there are: log_info, log_warning, log_error, ",
                           "log_verbose_level, log_format and log_file");
  }
  return absl::OkStatus();
}

absl::StatusOr<LogLevel> LevelOf(const LogSwitches& switches) {
  if (!switches.error) return InvalidArgument("log_error cannot be false: errors are logged always");
  if (!switches.warning && switches.info) {
    return InvalidArgument("log_warning cannot be false while log_info is true; set both");
  }
  if (!switches.info && switches.verbose > 0) {
    return InvalidArgument("log_info cannot be false while log_verbose_level is above 0; set both");
  }
  if (switches.verbose > 0) return LogLevel::kDebug;
  if (switches.info) return LogLevel::kInfo;
  return switches.warning ? LogLevel::kWarning : LogLevel::kError;
}

}  // namespace tandem::api::v2
