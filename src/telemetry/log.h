#pragma once
// The structured log: one line per event, key=value text or JSON. Thread-safe; a full queue drops and counts, never
// blocks.
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogField {
  std::string_view key;
  std::variant<std::string_view, int64_t, double, bool> value;
  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(std::string_view(v)) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(std::string_view(v)) {}
  LogField(std::string_view k, bool v) : key(k), value(v) {}
  LogField(std::string_view k, double v) : key(k), value(v) {}
  LogField(std::string_view k, int v) : key(k), value(int64_t{v}) {}
  LogField(std::string_view k, int64_t v) : key(k), value(v) {}
  LogField(std::string_view k, uint64_t v) : key(k), value(static_cast<int64_t>(v)) {}
};

struct LogSettings {
  std::string file;  // empty = stderr
  bool json = false;
  LogLevel level = LogLevel::kInfo;
  int64_t rotate_bytes = 64'000'000;
  int rotate_files = 5;
};

// Sets where the log goes. Before the first call it goes to stderr as text. Call again to change.
absl::Status ConfigureLog(const LogSettings& settings);
void SetLogLevel(LogLevel level);
LogLevel CurrentLogLevel();
absl::StatusOr<LogLevel> ParseLogLevel(std::string_view name);  // debug, info, warning, error
std::string_view LogLevelName(LogLevel level);
void FlushLog();

// Log(LogLevel::kInfo, "job started", {{"job", 3}, {"pid", pid}});
void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});

}  // namespace tandem
