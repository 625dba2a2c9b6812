#include "daemon/admin_service.h"

#include <unistd.h>

#include <mutex>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "base/version.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

int64_t ResidentBytes() {
  std::vector<std::string> words = absl::StrSplit(ReadFile("/proc/self/statm", 256).value_or(""), ' ');
  int64_t pages = 0;
  return words.size() > 1 && absl::SimpleAtoi(words[1], &pages) ? pages * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace

wire::Status AdminService::Status() {
  wire::Status status;
  status.set_version(kVersion);
  status.set_pid(getpid());
  status.set_uptime_s(static_cast<double>(parts_.clock->MonotonicNanos() - identity_.started_nanos) / 1e9);
  status.set_data(identity_.data);
  status.set_http(identity_.http);
  status.set_grpc(identity_.grpc);
  status.set_metrics(identity_.metrics);
  const isolation::Capabilities capabilities = parts_.isolation->capabilities();
  status.set_isolation(capabilities.explanation);
  status.set_rung(std::string(isolation::RungName(capabilities.rung)));
  const GovernorView view = parts_.governor->View();
  status.set_policy(StrCat(view.rules->policy->name(),
                           view.grant.window.empty() ? "" : StrCat(", window '", view.grant.window, "'")));
  for (const std::string& warning : parts_.housekeeper->Warnings()) status.add_notices(warning);
  status.set_memory_bytes(static_cast<double>(ResidentBytes()));
  *status.mutable_cpu() = parts_.sampler->Cpu();
  for (const std::string& notice : identity_.notices) status.add_notices(notice);
  for (const DiskArea& area : parts_.housekeeper->Areas()) {
    wire::DiskArea* shown = status.add_disk_areas();
    shown->set_side(area.side);
    shown->set_root(AsUtf8(area.root.string()));
    shown->set_used_bytes(static_cast<double>(area.used_bytes));
    shown->set_limit_bytes(static_cast<double>(area.limit_bytes));
  }
  for (const serving::VersionStatus& version : parts_.serving->States()) {
    wire::ServedModel* served = status.add_served();
    served->set_model(version.model);
    served->set_version(version.version);
    served->set_state(std::string(serving::StateName(version.state)));
    *served->mutable_latency() = parts_.sampler->Latency(version.model, version.version);
  }
  wire::JobList jobs = parts_.jobs_service->List();
  for (wire::Job& job : *jobs.mutable_jobs()) {
    absl::StatusOr<jobs::State> state = jobs::ParseState(job.state());
    if (state.ok() && !jobs::IsEnd(*state)) *status.add_active_jobs() = std::move(job);
  }
  return status;
}

wire::DoctorReport AdminService::Doctor() {
  wire::DoctorReport report = ExamineHost(*parts_.isolation);
  for (const auto& [what, folder] : paths_.Roots()) {
    std::error_code error;
    fs::space_info space = fs::space(folder, error);
    wire::DoctorCheck* disk = report.add_checks();
    disk->set_name("disk");
    bool low = !error && space.available < 2'000'000'000;
    disk->set_state(error || low ? "warning" : "ok");
    disk->set_detail(
        StrCat(error ? error.message() : StrCat(HumanBytes(static_cast<int64_t>(space.available)), " free"), " under ",
               folder.string(), " (", what, ")"));
    if (low) disk->set_cure("free some space: tandem gc");
  }
  if (repository_ != nullptr) repository_->Check(&report);
  return report;
}

absl::StatusOr<wire::GcReport> AdminService::CollectGarbage(const api::Caller&, bool dry_run) {
  wire::GcReport report;
  report.set_dry_run(dry_run);
  double bytes = 0;
  std::unique_lock recording(parts_.artifacts->record_mutex());
  std::vector<std::string> used = parts_.registry->UsedArtifacts();
  std::set<std::string> keep(used.begin(), used.end());
  for (const storage::ArtifactStore::Artifact& artifact : parts_.artifacts->List()) {
    if (keep.count(artifact.sha256) != 0) continue;
    bytes += static_cast<double>(artifact.bytes + BytesBelow(parts_.artifacts->DerivedFolder(artifact.sha256)));
    report.add_removed(StrCat("artifact ", artifact.sha256));
    if (!dry_run) TANDEM_RETURN_IF_ERROR(parts_.artifacts->Remove(artifact.sha256));
  }
  // Checkpoints of jobs that ended are of no more use; their log stays until the job is deleted.
  std::error_code error;
  for (const auto& folder : fs::directory_iterator(paths_.checkpoints(), error)) {
    absl::string_view name = AbslView(folder.path().filename().native());
    int32_t id = 0;
    if (!absl::ConsumePrefix(&name, "job-") || !absl::SimpleAtoi(name, &id)) continue;
    absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(id);
    if (record.ok() && !jobs::IsEnd(record->state)) continue;
    for (const auto& file : fs::directory_iterator(folder.path(), error)) {
      if (record.ok() && file.path() == paths_.JobLog(id)) continue;
      bytes += static_cast<double>(file.file_size(error));
      report.add_removed(file.path().string());
      if (!dry_run) fs::remove_all(file.path(), error);
    }
    if (!record.ok() && !dry_run) fs::remove_all(folder.path(), error);
  }
  report.set_bytes(bytes);
  return report;
}

void AdminService::Stop(const api::Caller& caller) {
  Log(LogLevel::kInfo, "stop was asked for", {{"who", caller.name}});
  parts_.stop();
}

absl::Status AdminService::SetLogLevel(const api::Caller& caller, std::string_view level) {
  TANDEM_ASSIGN_OR_RETURN(LogLevel parsed, ParseLogLevel(level));
  tandem::SetLogLevel(parsed);
  Log(LogLevel::kWarning, "log level changed", {{"level", level}, {"who", caller.name}});
  return absl::OkStatus();
}

}  // namespace tandem::daemon
