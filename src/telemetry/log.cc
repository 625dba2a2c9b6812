#include "telemetry/log.h"

#include <spdlog/async.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem {
namespace {

struct LogState {
  std::mutex mutex;
  std::shared_ptr<spdlog::logger> logger;  // guarded by mutex when replaced
  std::atomic<bool> json{false};
  std::atomic<LogLevel> level{LogLevel::kInfo};
};

LogState& State() {
  static auto* state = [] {
    auto* s = new LogState;
    s->logger = std::make_shared<spdlog::logger>("tandem", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    s->logger->set_pattern("%v");
    s->logger->set_level(spdlog::level::trace);
    return s;
  }();
  return *state;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string TimeText() {
  timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  tm utc;
  gmtime_r(&ts.tv_sec, &utc);
  char text[40];
  size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf(text + n, sizeof text - n, ".%03ldZ", ts.tv_nsec / 1'000'000);
  return text;
}

nlohmann::json ToJson(const LogField& field) {
  return std::visit([](const auto& v) { return nlohmann::json(v); }, field.value);
}

std::string FormatJson(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  nlohmann::ordered_json line;
  line["time"] = TimeText();
  line["level"] = LogLevelName(level);
  line["message"] = message;
  for (const LogField& field : fields) line[std::string(field.key)] = ToJson(field);
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string FormatText(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  std::string line = StrCat(TimeText(), " ", LogLevelName(level), "  ", message);
  for (const LogField& field : fields) {
    // JSON quoting keeps a value on one line and unambiguous; plain words need no quotes.
    std::string value = ToJson(field).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    bool plain = value.size() > 2 && value.find_first_of(" =\\") == std::string::npos;
    if (plain && value.front() == '"') value = value.substr(1, value.size() - 2);
    StrAppend(&line, "  ", field.key, "=", value);
  }
  return line;
}

}  // namespace

absl::Status ConfigureLog(const LogSettings& settings) {
  LogState& state = State();
  std::lock_guard lock(state.mutex);
  try {
    std::shared_ptr<spdlog::sinks::sink> sink;
    if (settings.file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(settings.file, settings.rotate_bytes,
                                                                    settings.rotate_files);
    }
    spdlog::init_thread_pool(8192, 1);
    state.logger = std::make_shared<spdlog::async_logger>("tandem", sink, spdlog::thread_pool(),
                                                          spdlog::async_overflow_policy::overrun_oldest);
  } catch (const std::exception& e) {
    return InvalidArgument("log file '", settings.file, "': ", e.what());
  }
  state.logger->set_pattern("%v");
  state.logger->set_level(spdlog::level::trace);
  state.logger->flush_on(spdlog::level::info);
  state.json = settings.json;
  state.level = settings.level;
  return absl::OkStatus();
}

void SetLogLevel(LogLevel level) { State().level = level; }
LogLevel CurrentLogLevel() { return State().level; }

absl::StatusOr<LogLevel> ParseLogLevel(std::string_view name) {
  for (LogLevel level : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (absl::EqualsIgnoreCase(AbslView(LogLevelName(level)), AbslView(name))) return level;
  }
  return InvalidArgument("log level '", name, "' is not one of debug, info, warning, error",
                         DidYouMean(name, {"debug", "info", "warning", "error"}));
}

std::string_view LogLevelName(LogLevel level) {
  static constexpr std::string_view kNames[] = {"debug", "info", "warning", "error"};
  return kNames[static_cast<int>(level)];
}

void FlushLog() { State().logger->flush(); }

void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  LogState& state = State();
  if (level < state.level.load(std::memory_order_relaxed)) return;
  std::string line = state.json ? FormatJson(level, message, fields) : FormatText(level, message, fields);
  state.logger->log(ToSpdlog(level), "{}", line);
}

}  // namespace tandem
