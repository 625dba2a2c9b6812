#include "tandem/host_meter.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/status.h"

namespace tandem::cli {
namespace {
namespace fs = std::filesystem;

// The threads that answer requests have this in front of their number.
// Threads of both doors run requests, whichever they came through.
constexpr std::string_view kLatencyThreads[] = {"http-io-", "grpc-io-"};

absl::StatusOr<std::vector<int64_t>> Numbers(std::string_view text, size_t at_least, std::string_view what) {
  std::vector<int64_t> numbers;
  for (absl::string_view word : absl::StrSplit(AbslView(text), absl::ByAnyChar(" \t\n"), absl::SkipEmpty())) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(word, &number)) break;
    numbers.push_back(number);
  }
  if (numbers.size() < at_least) return Internal(what, " is not as expected: '", text.substr(0, 80), "'");
  return numbers;
}

double ProcessSeconds(pid_t pid) {
  absl::StatusOr<std::string> text = ReadFile(StrCat("/proc/", pid, "/stat"));
  if (!text.ok()) return 0;
  return static_cast<double>(ParseProcessTicks(*text).value_or(0)) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void AddLatencyThreads(pid_t daemon, HostReading* reading) {
  std::error_code error;
  for (const auto& task : fs::directory_iterator(StrCat("/proc/", daemon, "/task"), error)) {
    std::string name = ReadFile(task.path() / "comm").value_or("");
    if (std::ranges::none_of(kLatencyThreads, [&](std::string_view prefix) { return name.starts_with(prefix); }))
      continue;
    absl::StatusOr<ThreadTimes> times = ParseSchedstat(ReadFile(task.path() / "schedstat").value_or(""));
    if (!times.ok()) continue;
    ++reading->latency_thread_count;
    reading->latency_threads.run_nanos += times->run_nanos;
    reading->latency_threads.delay_nanos += times->delay_nanos;
    reading->latency_threads.times_run += times->times_run;
  }
}

std::string FirstLine(const fs::path& path) {
  std::string text = ReadFile(path, 1 << 16).value_or("");
  return text.substr(0, text.find('\n'));
}

std::string CpuModel() {
  std::string text = ReadFile("/proc/cpuinfo").value_or("");
  size_t at = text.find("model name");
  if (at == text.npos) return "";
  size_t begin = text.find(':', at) + 1;
  return std::string(absl::StripAsciiWhitespace(text.substr(begin, text.find('\n', begin) - begin)));
}

}  // namespace

absl::StatusOr<CpuTicks> ParseCpuTicks(std::string_view proc_stat) {
  if (!proc_stat.starts_with("cpu ")) return Internal("/proc/stat does not begin with the sum of all CPUs");
  std::string_view line = proc_stat.substr(4, proc_stat.find('\n') - 4);
  TANDEM_ASSIGN_OR_RETURN(std::vector<int64_t> fields, Numbers(line, 8, "/proc/stat"));
  CpuTicks ticks{.total = 0, .idle = fields[3], .iowait = fields[4], .steal = fields[7]};
  for (size_t i = 0; i < 8; ++i) ticks.total += fields[i];  // guests' time, behind, is part of user's
  return ticks;
}

absl::StatusOr<int64_t> ParseProcessTicks(std::string_view stat) {
  size_t end = stat.rfind(") ");
  if (end == stat.npos || end + 4 > stat.size()) return Internal("/proc/PID/stat has no name in brackets");
  // Behind the name: the state, a letter, then numbers; utime and stime are the 12th and 13th word.
  TANDEM_ASSIGN_OR_RETURN(std::vector<int64_t> fields, Numbers(stat.substr(end + 3), 12, "/proc/PID/stat"));
  return fields[10] + fields[11];
}

absl::StatusOr<ThreadTimes> ParseSchedstat(std::string_view schedstat) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<int64_t> fields, Numbers(schedstat, 3, "schedstat"));
  return ThreadTimes{.run_nanos = fields[0], .delay_nanos = fields[1], .times_run = fields[2]};
}

absl::StatusOr<HostReading> ReadHost(pid_t daemon, const std::vector<pid_t>& trainers) {
  HostReading reading;
  reading.nanos = Clock::Real()->MonotonicNanos();
  TANDEM_ASSIGN_OR_RETURN(std::string stat, ReadFile("/proc/stat"));
  TANDEM_ASSIGN_OR_RETURN(reading.cpu, ParseCpuTicks(stat));
  reading.serving_s = ProcessSeconds(daemon);
  for (pid_t trainer : trainers) reading.training_s += ProcessSeconds(trainer);
  AddLatencyThreads(daemon, &reading);
  return reading;
}

HostWindow Between(const HostReading& before, const HostReading& after, bool training) {
  HostWindow window;
  window.seconds = static_cast<double>(after.nanos - before.nanos) * 1e-9;
  const double tick = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
  const double total = static_cast<double>(after.cpu.total - before.cpu.total) * tick;
  if (total <= 0) return window;
  const double idle =
      static_cast<double>(after.cpu.idle + after.cpu.iowait - before.cpu.idle - before.cpu.iowait) * tick;
  const double trained = after.training_s - before.training_s;
  window.steal = static_cast<double>(after.cpu.steal - before.cpu.steal) * tick / total;
  window.idle = idle / total;
  window.serving = (after.serving_s - before.serving_s) / total;
  window.training = trained / total;
  if (training && trained + idle > 0) window.conservation = trained / (trained + idle);
  window.times_run = after.latency_threads.times_run - before.latency_threads.times_run;
  if (before.latency_thread_count > 0 && window.times_run > 0) {
    window.run_delay_us = static_cast<double>(after.latency_threads.delay_nanos - before.latency_threads.delay_nanos) /
                          1e3 / static_cast<double>(window.times_run);
  }
  return window;
}

HostFacts ReadHostFacts() {
  HostFacts facts;
  utsname name{};
  if (uname(&name) == 0) facts.kernel = StrCat(name.sysname, " ", name.release);
  facts.cpu_model = CpuModel();
  facts.governor = FirstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  cpu_set_t usable;
  facts.cpus = sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
  facts.root = geteuid() == 0;
  absl::StatusOr<CpuTicks> ticks = ParseCpuTicks(ReadFile("/proc/stat").value_or(""));
  facts.steal_reported = ticks.ok() && ticks->steal > 0;
  return facts;
}

}  // namespace tandem::cli
