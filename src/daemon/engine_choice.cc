#include "daemon/engine_choice.h"

#include <algorithm>
#include <chrono>

#include "base/background_class.h"
#include "base/status.h"
#include "spec/train_spec.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

// How soon a swap that was not complete is looked at again.
constexpr auto kTidyInterval = std::chrono::seconds(1);

std::string NameOf(const ChoosableVersion& version) {
  return StrCat(version.record.model, "/", version.record.version);
}

std::string TryOf(const ChoosableVersion& version, const std::string& key) {
  return StrCat(version.record.sha256, " ", key);
}

const serving::VersionStatus* Find(const std::vector<serving::VersionStatus>& states, const registry::Version& version,
                                   bool unloading = false) {
  for (const serving::VersionStatus& status : states) {
    const bool same = status.model == version.model && status.version == version.version;
    if (same && (status.state == serving::VersionState::kUnloading) == unloading) return &status;
  }
  return nullptr;
}

absl::Status Stopping() { return Unavailable("the server is stopping"); }

}  // namespace

EngineChoice::EngineChoice(ChoiceParts parts) : parts_(std::move(parts)), thread_([this] { Work(); }) {
  parts_.catalog->AttachChooser(
      {.on_change = [this] { Notify(); },
       .find_other = [this](const std::string& model, int32_t version,
                            const absl::Status& failure) { return FindOther(model, version, failure); }});
}

EngineChoice::~EngineChoice() {
  Stop();
  parts_.catalog->AttachChooser({});
  thread_.join();
}

void EngineChoice::Notify() {
  std::lock_guard lock(mutex_);
  work_ = true;
  wake_.notify_all();
}

void EngineChoice::Stop() {
  std::lock_guard lock(mutex_);
  stop_ = true;
  for (Order& order : orders_) order.done.set_value(Stopping());
  orders_.clear();
  wake_.notify_all();
}

absl::Status EngineChoice::Await(ChoosableVersion version, bool anyway) {
  std::future<absl::Status> done;
  {
    std::lock_guard lock(mutex_);
    if (stop_) return Stopping();
    Order& order = orders_.emplace_back(Order{std::move(version), anyway, {}});
    done = order.done.get_future();
    wake_.notify_all();
  }
  return done.get();
}

absl::Status EngineChoice::Measure(const std::string& model, int32_t version) {
  TANDEM_ASSIGN_OR_RETURN(ChoosableVersion found, parts_.catalog->FindChoosable(model, version));
  return Await(std::move(found), true);
}

absl::Status EngineChoice::FindOther(const std::string& model, int32_t version, const absl::Status& failure) {
  std::vector<ChoosableVersion> choosable = parts_.catalog->Choosable();
  auto found = std::ranges::find_if(choosable, [&](const ChoosableVersion& one) {
    return one.record.model == model && one.record.version == version;
  });
  if (found == choosable.end()) return failure;
  const std::string failed = found->desired.engine;
  absl::Status measured = Await(std::move(*found), false);
  if (!measured.ok()) return absl::IsUnavailable(measured) ? measured : failure;
  // Where the engine is the same, the version is still FAILED, and the answer comes at once.
  absl::Status ready = parts_.serving->WaitUntilReady(model, version, parts_.load_timeout_s);
  if (ready.ok()) return ready;
  absl::StatusOr<registry::Version> record = parts_.registry->GetVersion(model, version);
  if (!record.ok()) return failure;
  const std::string others = WhyOthersDoNot(EngineReportFromJson(record->engine_report), failed);
  return absl::Status(ready.code(),
                      StrCat(MessageOf(ready), others.empty() ? "" : "; nor do the others serve it: ", others));
}

void EngineChoice::Work() {
  EnterBackgroundClass();
  engines_ = parts_.engines();
  std::optional<Order> order;
  while (WaitForWork(&order)) {
    if (!order) {
      Step();
      continue;
    }
    // The record may have changed while the order waited.
    const registry::Version& asked = order->version.record;
    absl::StatusOr<ChoosableVersion> version = parts_.catalog->FindChoosable(asked.model, asked.version);
    absl::Status done = version.status();
    // A person's word: what is held back gets another try.
    if (version.ok()) done = order->anyway ? Process(*version, {}) : Settle(*version);
    order->done.set_value(std::move(done));
    order.reset();
  }
}

bool EngineChoice::WaitForWork(std::optional<Order>* order) {
  std::unique_lock lock(mutex_);
  auto ready = [&] { return work_ || stop_ || !orders_.empty(); };
  if (untidy_) {
    wake_.wait_for(lock, kTidyInterval, ready);
  } else {
    wake_.wait(lock, ready);
  }
  if (stop_) return false;
  if (!orders_.empty()) {
    order->emplace(std::move(orders_.front()));
    orders_.pop_front();
    return true;
  }
  work_ = false;
  return true;
}

void EngineChoice::Step() {
  std::optional<ChoosableVersion> next = Next();
  if (!next) {
    untidy_ = !RemoveLosers();
    return;
  }
  absl::Status done = Settle(*next);
  if (!done.ok() && !absl::IsUnavailable(done)) {
    Log(LogLevel::kWarning, "no engine could be chosen",
        {{"model", next->record.model}, {"version", next->record.version}, {"error", MessageOf(done)}});
    untidy_ = true;
    return;
  }
  Notify();  // there may be more; orders come first
}

std::string EngineChoice::KeyFor(const ChoosableVersion& version) const {
  return KeyOf(engines_, version.desired.options, DecidingBatch(version.config), version.config.isolation);
}

bool EngineChoice::IsDue(const ChoosableVersion& version) const {
  const std::string key = KeyFor(version);
  auto tried = tried_.find(NameOf(version));
  if (tried != tried_.end() && tried->second == TryOf(version, key)) return false;
  return EngineReportFromJson(version.record.engine_report).key != key;
}

std::optional<ChoosableVersion> EngineChoice::Next() {
  const std::vector<serving::VersionStatus> states = parts_.serving->States();
  std::optional<ChoosableVersion> ready;
  for (ChoosableVersion& version : parts_.catalog->Choosable()) {
    const serving::VersionStatus* status = Find(states, version.record);
    const bool failed = status != nullptr && status->state == serving::VersionState::kFailed;
    const bool serves = status != nullptr && status->state == serving::VersionState::kReady;
    // What is being loaded has the processor first; what is lazy waits for its first request.
    if ((!failed && !serves && !version.record.quarantined) || (!failed && ready)) continue;
    if (!IsDue(version) && !ReportWithoutFailed(version, status)) continue;
    if (failed) return std::move(version);
    ready = std::move(version);
  }
  return ready;
}

std::optional<EngineReport> EngineChoice::ReportWithoutFailed(const ChoosableVersion& version,
                                                              const serving::VersionStatus* status) {
  if (status == nullptr || status->failed_engine.empty()) return std::nullopt;
  EngineReport report = EngineReportFromJson(version.record.engine_report);
  if (status->failed_engine != report.chosen || !StrikeOut(status->reason, &report)) return std::nullopt;
  return report;
}

absl::Status EngineChoice::Settle(const ChoosableVersion& version) {
  if (IsDue(version)) return Process(version, EngineReportFromJson(version.record.engine_report));
  const std::vector<serving::VersionStatus> states = parts_.serving->States();
  std::optional<EngineReport> report = ReportWithoutFailed(version, Find(states, version.record));
  return report ? Store(version, *report) : absl::OkStatus();
}

absl::Status EngineChoice::Process(const ChoosableVersion& version, const EngineReport& former) {
  const std::string key = KeyFor(version);
  tried_[NameOf(version)] = TryOf(version, key);
  MeasuringParts parts{.catalog = parts_.catalog,
                       .accounting = parts_.accounting,
                       .spawn = parts_.spawn,
                       .prepare_timeout_s = parts_.prepare_timeout_s,
                       .measure_timeout_s = parts_.measure_timeout_s};
  EngineMeasuring measuring(std::move(parts), version, parts_.run_folder / StrCat("measure-", next_folder_++),
                            DatasetOf(version.record));
  TANDEM_ASSIGN_OR_RETURN(EngineReport report, measuring.Run(engines_));
  report.key = key;
  report.when_ms = static_cast<double>(parts_.clock->UnixMillis());
  ChooseBeside(former, &report);
  if (!report.chosen.empty()) measuring.Keep(report.chosen);
  return Store(version, report);
}

absl::Status EngineChoice::Store(const ChoosableVersion& version, const EngineReport& report) {
  const registry::Version& record = version.record;
  TANDEM_ASSIGN_OR_RETURN(registry::Version now, parts_.registry->GetVersion(record.model, record.version));
  if (now.sha256 != record.sha256) {
    return FailedPrecondition("model '", record.model, "' version ", record.version, " was replaced meanwhile");
  }
  TANDEM_RETURN_IF_ERROR(parts_.registry->SetEngineReport(record.model, record.version, ToJson(report)));
  Log(LogLevel::kInfo, "engine chosen",
      {{"model", record.model},
       {"version", record.version},
       {"chosen", report.chosen.empty() ? "none" : report.chosen},
       {"why", report.why}});
  // It ended the server, or never loaded, on another engine.
  if (now.quarantined && !report.chosen.empty() && report.chosen != version.desired.engine) {
    TANDEM_RETURN_IF_ERROR(parts_.registry->SetQuarantine(record.model, record.version, false, ""));
  }
  parts_.catalog->Sync(record.model);
  return absl::OkStatus();
}

std::optional<wire::Dataset> EngineChoice::DatasetOf(const registry::Version& version) const {
  if (version.job == 0 || parts_.jobs == nullptr) return std::nullopt;
  absl::StatusOr<jobs::JobRecord> job = parts_.jobs->Get(version.job);
  if (!job.ok()) return std::nullopt;
  absl::StatusOr<spec::TrainSpec> spec = spec::ParseTrainSpec(job->spec, StrCat("job ", version.job));
  if (!spec.ok()) return std::nullopt;
  absl::StatusOr<wire::Dataset> dataset = parts_.registry->GetDataset(spec->dataset);
  return dataset.ok() ? std::optional(*std::move(dataset)) : std::nullopt;
}

bool EngineChoice::RemoveLosers() {
  const std::vector<serving::VersionStatus> states = parts_.serving->States();
  bool complete = true;
  for (const ChoosableVersion& version : parts_.catalog->Choosable()) {
    const EngineReport report = EngineReportFromJson(version.record.engine_report);
    const serving::VersionStatus* status = Find(states, version.record);
    if (report.chosen != version.desired.engine || status == nullptr ||
        status->state != serving::VersionState::kReady || status->engine != report.chosen) {
      continue;
    }
    for (const EngineResult& result : report.engines) {
      if (result.engine == report.chosen) continue;
      const fs::path folder = parts_.catalog->PreparedFolder(version, result.engine);
      std::error_code error;
      if (parts_.catalog->IsUsed(folder) || !fs::exists(folder, error)) continue;
      if (Find(states, version.record, /*unloading=*/true) != nullptr) {
        complete = false;  // requests still run on it
        continue;
      }
      fs::remove_all(folder, error);
    }
  }
  return complete;
}

}  // namespace tandem::daemon
