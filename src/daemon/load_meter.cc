#include "daemon/load_meter.h"

#include <algorithm>

#include "base/strings.h"

namespace tandem::daemon {
namespace {

constexpr size_t kReadings = 11;  // a second, and its beginning
constexpr int64_t kRecordedMillis = 3'600'000;

double P99Millis(const HistogramSnapshot& window) { return window.Quantile(0.99) / 1000; }

}  // namespace

HistogramSnapshot LoadMeter::ReadLatency(const Key& key) const {
  absl::StatusOr<serving::ModelHandle> handle = serving_->Find(key.first, StrCat(key.second));
  return handle.ok() ? (*handle)->ReadLatency() : HistogramSnapshot();
}

void LoadMeter::Sample(int64_t now_nanos) {
  std::vector<serving::LoadNow> loads = serving_->Loads();
  std::lock_guard lock(mutex_);
  std::map<Key, Version> seen;
  for (const serving::LoadNow& load : loads) {
    Key key{load.model, load.version};
    Version version = std::move(versions_[key]);
    bool quiet = !version.readings.empty() && version.finished == load.finished;
    // A quiet version's last reading still holds; its time moves on, so that old requests leave the window.
    HistogramSnapshot latency = quiet ? version.readings.back().latency : ReadLatency(key);
    version.readings.push_back({now_nanos, std::move(latency)});
    if (version.readings.size() > kReadings) version.readings.pop_front();
    version.finished = load.finished;
    version.waiting = load.waiting;
    seen.emplace(std::move(key), std::move(version));
  }
  versions_ = std::move(seen);
}

void LoadMeter::Forget() {
  std::lock_guard lock(mutex_);
  versions_.clear();
}

std::vector<scheduling::ModelLoad> LoadMeter::LastSecond(const SloLookup& slo) const {
  std::vector<scheduling::ModelLoad> loads;
  std::lock_guard lock(mutex_);
  for (const auto& [key, version] : versions_) {
    scheduling::ModelLoad load{.name = key.first, .slo_ms = slo(key.first)};
    load.waiting = version.waiting;
    const Reading &first = version.readings.front(), &last = version.readings.back();
    HistogramSnapshot window = last.latency.Since(first.latency);
    double seconds = static_cast<double>(last.nanos - first.nanos) / 1e9;
    load.requests = static_cast<int64_t>(window.count);
    if (window.count > 0) load.p99_ms = P99Millis(window);
    if (seconds > 0) load.requests_per_s = static_cast<double>(window.count) / seconds;
    loads.push_back(std::move(load));
  }
  return loads;
}

WorstLoad LoadMeter::Worst(const SloLookup& slo) const {
  WorstLoad worst;
  std::lock_guard lock(mutex_);
  for (const auto& [key, version] : versions_) {
    double target = slo(key.first);
    if (target <= 0 || version.readings.size() < 2) continue;
    const Reading& before = version.readings[version.readings.size() - 2];
    HistogramSnapshot window = version.readings.back().latency.Since(before.latency);
    if (window.count == 0) continue;
    double ratio = P99Millis(window) / target;
    if (ratio <= worst.ratio) continue;
    worst = {.ratio = ratio, .requests = static_cast<int64_t>(window.count), .model = key.first, .slo_ms = target};
  }
  return worst;
}

void LoadMeter::Record(int64_t unix_ms) {
  std::map<std::string, Recording> now;
  for (const serving::LoadNow& load : serving_->Loads()) {
    Recording& sum = now[load.model];
    sum.executed += load.executed;
    sum.busy_ns += load.busy_ns;
    sum.unix_ms = unix_ms;
  }
  std::lock_guard lock(mutex_);
  // Times rise, as 'tandem simulate' wants them: a clock that was set back takes back what it said.
  while (!recorded_.empty() && recorded_.back().unix_ms > unix_ms) recorded_.pop_back();
  for (auto& [model, recording] : now) {
    const Recording& before = recordings_[model];
    recording.service_ms = before.service_ms;
    double seconds = static_cast<double>(unix_ms - before.unix_ms) / 1000;
    // Sums fall when a version is unloaded, and a clock may jump: such a second is left out.
    bool usable = before.unix_ms > 0 && seconds > 0 && recording.executed >= before.executed &&
                  recording.busy_ns >= before.busy_ns;
    if (!usable) continue;
    // What was answered from the cache or refused is no load. A request may be counted a moment after its run.
    const auto requests = static_cast<double>(recording.executed - before.executed);
    const double busy_ms = static_cast<double>(recording.busy_ns - before.busy_ns) / 1e6;
    if (requests > 0 && busy_ms > 0) recording.service_ms = std::min(busy_ms / requests, scheduling::kMostServiceMs);
    recorded_.push_back({.unix_ms = unix_ms,
                         .model = model,
                         .requests_per_s = requests / seconds,
                         .service_ms = requests > 0 ? recording.service_ms : 0});
  }
  recordings_ = std::move(now);
  while (!recorded_.empty() && recorded_.front().unix_ms < unix_ms - kRecordedMillis) recorded_.pop_front();
}

std::vector<scheduling::LoadPoint> LoadMeter::Recorded(int64_t from_unix_ms) const {
  std::lock_guard lock(mutex_);
  std::vector<scheduling::LoadPoint> points;
  for (const scheduling::LoadPoint& point : recorded_) {
    if (point.unix_ms >= from_unix_ms) points.push_back(point);
  }
  return points;
}

}  // namespace tandem::daemon
