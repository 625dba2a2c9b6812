#include "daemon/host_sampler.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/strings.h"

namespace tandem::daemon {
namespace {

constexpr size_t kWindowSamples = 10;

double OwnCpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void Add(std::vector<MetricFamily>* families, MetricFamily::Type type, std::string name, std::string help,
         std::vector<MetricSample> samples) {
  families->push_back({std::move(name), std::move(help), type, std::move(samples)});
}

std::map<std::string, double> ReadMemInfo() {
  std::map<std::string, double> bytes;
  for (absl::string_view line : absl::StrSplit(ReadFile("/proc/meminfo", 1 << 16).value_or(""), '\n')) {
    std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(line, absl::MaxSplits(':', 1));
    double kilobytes = 0;
    absl::ConsumeSuffix(&pair.second, " kB");
    if (absl::SimpleAtod(absl::StripAsciiWhitespace(pair.second), &kilobytes))
      bytes[std::string(pair.first)] = kilobytes * 1024;
  }
  return bytes;
}

// Whole disks only: a partition's traffic is its disk's too.
void AddDiskMetrics(std::vector<MetricFamily>* families) {
  std::vector<MetricSample> read, written;
  for (absl::string_view line : absl::StrSplit(ReadFile("/proc/diskstats", 1 << 18).value_or(""), '\n')) {
    char device[64];
    unsigned long long sectors_read = 0, sectors_written = 0;
    if (sscanf(std::string(line).c_str(), "%*u %*u %63s %*u %*u %llu %*u %*u %*u %llu", device, &sectors_read,
               &sectors_written) != 3)
      continue;
    if (access(StrCat("/sys/block/", device).c_str(), F_OK) != 0 || sectors_read + sectors_written == 0) continue;
    read.push_back({{{"device", device}}, sectors_read * 512.0, nullptr});
    written.push_back({{{"device", device}}, sectors_written * 512.0, nullptr});
  }
  Add(families, MetricFamily::Type::kCounter, "tandem_host_disk_read_bytes_total",
      "Bytes read from each disk of the machine.", read);
  Add(families, MetricFamily::Type::kCounter, "tandem_host_disk_written_bytes_total",
      "Bytes written to each disk of the machine.", written);
}

CpuTimes ReadCpuTimes() { return ParseProcStat(ReadFile("/proc/stat", 1 << 20).value_or(""), sysconf(_SC_CLK_TCK)); }

}  // namespace

CpuTimes ParseProcStat(std::string_view text, double ticks_per_second) {
  CpuTimes times;
  std::vector<double*> fields = {&times.user,   &times.nice, &times.system,  &times.idle,
                                 &times.iowait, &times.irq,  &times.softirq, &times.steal};
  std::vector<std::string> words = absl::StrSplit(AbslView(text.substr(0, text.find('\n'))), ' ', absl::SkipEmpty());
  if (words.size() < fields.size() + 1 || words[0] != "cpu") return times;
  for (size_t i = 0; i < fields.size(); ++i) {
    double ticks = 0;
    if (absl::SimpleAtod(words[i + 1], &ticks)) *fields[i] = ticks / ticks_per_second;
  }
  return times;
}

double HostSampler::TrainingSeconds() {
  std::map<int32_t, double> now;
  for (const auto& [job, usage] : loop_->ReadUsage()) {
    now[job] = usage.cpu_seconds;
    training_seconds_ += std::max(0.0, usage.cpu_seconds - last_usage_[job]);
  }
  last_usage_ = std::move(now);
  return training_seconds_;
}

void HostSampler::Sample() {
  CpuSample cpu{ReadCpuTimes(), OwnCpuSeconds(), TrainingSeconds()};
  const int64_t now = clock_->MonotonicNanos();
  std::map<std::pair<std::string, int32_t>, ServedSample> served;
  for (const serving::VersionStatus& status : serving_->States()) {
    absl::StatusOr<serving::ModelHandle> handle = serving_->Find(status.model, StrCat(status.version));
    if (handle.ok())
      served[{status.model, status.version}] = {now, (*handle)->ReadLatency(), (*handle)->ReadStatistics().fail_count};
  }
  std::lock_guard lock(mutex_);
  cpu_.push_back(cpu);
  if (cpu_.size() > 2) cpu_.pop_front();
  std::erase_if(served_, [&](const auto& entry) { return served.count(entry.first) == 0; });
  for (auto& [key, sample] : served) {
    std::deque<ServedSample>& samples = served_[key];
    samples.push_back(std::move(sample));
    if (samples.size() > kWindowSamples) samples.pop_front();
  }
}

wire::CpuSplit HostSampler::Cpu() const {
  wire::CpuSplit split;
  std::lock_guard lock(mutex_);
  if (cpu_.size() < 2) return split;
  const CpuSample &before = cpu_.front(), &after = cpu_.back();
  double total = after.machine.Total() - before.machine.Total();
  if (total <= 0) return split;
  double serving = after.serving - before.serving, training = after.training - before.training;
  double busy = after.machine.Busy() - before.machine.Busy();
  split.set_serving(serving / total);
  split.set_training(training / total);
  split.set_other(std::max(0.0, busy - serving - training) / total);
  split.set_idle((after.machine.idle + after.machine.iowait - before.machine.idle - before.machine.iowait) / total);
  split.set_steal((after.machine.steal - before.machine.steal) / total);
  return split;
}

wire::LatencySummary HostSampler::Latency(const std::string& model, int32_t version) const {
  wire::LatencySummary summary;
  std::lock_guard lock(mutex_);
  auto found = served_.find({model, version});
  if (found == served_.end() || found->second.size() < 2) return summary;
  const ServedSample &before = found->second.front(), &after = found->second.back();
  HistogramSnapshot window = after.latency.Since(before.latency);
  summary.set_p50_ms(window.Quantile(0.5) / 1000);
  summary.set_p99_ms(window.Quantile(0.99) / 1000);
  summary.set_requests_per_s(static_cast<double>(window.count) * 1e9 / static_cast<double>(after.nanos - before.nanos));
  summary.set_requests(static_cast<double>(after.latency.count));
  summary.set_failures(static_cast<double>(after.failures));
  return summary;
}

void HostSampler::AddHostMetrics(std::vector<MetricFamily>* families) const {
  CpuTimes cpu = ReadCpuTimes();
  std::vector<MetricSample> modes;
  for (auto [mode, seconds] : std::initializer_list<std::pair<const char*, double>>{{"user", cpu.user},
                                                                                    {"nice", cpu.nice},
                                                                                    {"system", cpu.system},
                                                                                    {"idle", cpu.idle},
                                                                                    {"iowait", cpu.iowait},
                                                                                    {"irq", cpu.irq},
                                                                                    {"softirq", cpu.softirq},
                                                                                    {"steal", cpu.steal}}) {
    modes.push_back({{{"mode", mode}}, seconds, nullptr});
  }
  Add(families, MetricFamily::Type::kCounter, "tandem_host_cpu_seconds_total",
      "CPU time of the machine since boot, by mode.", modes);
  Add(families, MetricFamily::Type::kCounter, "tandem_server_cpu_seconds_total", "CPU time of the server process.",
      {{{}, OwnCpuSeconds(), nullptr}});
  const wire::CpuSplit split = Cpu();
  Add(families, MetricFamily::Type::kGauge, "nv_cpu_utilization", "Share of the CPUs in use in the last second (0..1).",
      {{{}, split.serving() + split.training() + split.other(), nullptr}});
  std::map<std::string, double> memory = ReadMemInfo();
  Add(families, MetricFamily::Type::kGauge, "nv_cpu_memory_total_bytes", "Memory of the machine.",
      {{{}, memory["MemTotal"], nullptr}});
  Add(families, MetricFamily::Type::kGauge, "nv_cpu_memory_used_bytes", "Memory of the machine in use.",
      {{{}, memory["MemTotal"] - memory["MemAvailable"], nullptr}});
  AddDiskMetrics(families);
}

}  // namespace tandem::daemon
