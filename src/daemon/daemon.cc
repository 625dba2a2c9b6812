#include "daemon/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "base/version.h"
#include "daemon/engine_choice_recovery.h"
#include "daemon/real_daemon.h"
#include "daemon/roots.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

constexpr int kStepMillis = 100;
constexpr int64_t kSampleNanos = 1'000'000'000;
// Of the stop's time, what draining and closing need after the jobs have left.
constexpr double kStopReserveSeconds = 2;
// Of that, for the last traces.
constexpr double kFlushSeconds = 1;

std::vector<storage::Migration> AllMigrations() {
  std::vector<storage::Migration> all = jobs::Migrations();
  for (const auto& more : {jobs::RecurringMigrations(), registry::Migrations(), accounting::Migrations(),
                           PolicyMigrations(), RootMigrations()})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

absl::Status MakeDataFolder(const Paths& paths) {
  TANDEM_RETURN_IF_ERROR(MakeFolders(paths.run()));
  std::error_code error;
  fs::permissions(paths.root, fs::perms::owner_all, error);
  return absl::OkStatus();
}

// What a former life left while it worked: uploads, imports, outputs of helpers.
void CleanRunFolder(const fs::path& root) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(Paths::RunBelow(root), error)) {
    if (entry.path() != Paths::LockBelow(root)) fs::remove_all(entry.path(), error);
  }
}

TrainingSettings ResolveTraining(const spec::TrainingSection& section, const isolation::Topology& topology) {
  TrainingSettings training;
  training.cpus = topology.usable_cpus;
  training.threads = section.threads > 0 ? section.threads : topology.usable_cpus;
  training.memory_bytes = section.memory_bytes > 0 ? section.memory_bytes : topology.memory_bytes / 10 * 8;
  training.max_running_jobs = static_cast<int>(section.max_jobs);
  training.max_attempts = static_cast<int>(section.max_attempts);
  return training;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Create(const spec::Settings& settings) {
  auto daemon = std::make_unique<RealDaemon>(settings);
  TANDEM_RETURN_IF_ERROR(daemon->Init());
  return daemon;
}

absl::Status RealDaemon::Init() {
  TANDEM_RETURN_IF_ERROR(MakeDataFolder(paths_));
  const std::string holder = StrCat("pid=", getpid(), " data=", settings_.data);
  absl::StatusOr<FileLock> lock = FileLock::Acquire(Paths::LockBelow(paths_.root), holder);
  if (absl::IsFailedPrecondition(lock.status())) {
    return FailedPrecondition("another server uses the data folder '", settings_.data, "': ", MessageOf(lock.status()),
                              "; stop it (tandem stop), or give another folder with --data");
  }
  TANDEM_RETURN_IF_ERROR(lock.status());
  locks_.push_back(*std::move(lock));
  CleanRunFolder(paths_.root);
  TANDEM_RETURN_IF_ERROR(OpenStores());
  TANDEM_RETURN_IF_ERROR(OpenRoots(holder));
  for (const std::string& notice : notices_) Log(LogLevel::kWarning, "recovery", {{"notice", notice}});
  TANDEM_RETURN_IF_ERROR(MakeEngines());
  MakeServices();
  TANDEM_RETURN_IF_ERROR(MakeRepository());
  return MakeDoors();
}

absl::Status RealDaemon::OpenStores() {
  TANDEM_ASSIGN_OR_RETURN(store_, storage::Store::Open(paths_.database(), AllMigrations()));
  TANDEM_ASSIGN_OR_RETURN(registry_, registry::Registry::Open(store_.get(), clock_));
  TANDEM_ASSIGN_OR_RETURN(jobs_, jobs::JobStore::Open(store_.get(), clock_, &notices_));
  TANDEM_ASSIGN_OR_RETURN(recurring_, jobs::RecurringStore::Open(store_.get(), clock_));
  TANDEM_ASSIGN_OR_RETURN(accounting_, accounting::Accounting::Open(store_.get()));
  TANDEM_ASSIGN_OR_RETURN(book_, PolicyBook::Open(store_.get(), clock_, spec::ToYaml(settings_.sharing)));
  for (const std::string& version : registry_->QuarantinedAtOpen()) {
    notices_.push_back(
        StrCat("model ", version,
               " was being loaded when the server ended, and is not loaded again by itself; 'tandem models deploy ",
               version, "' tries again"));
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> settled, SettleCutShortLoads(registry_.get(), ChoosesEngines()));
  std::move(settled.begin(), settled.end(), std::back_inserter(notices_));
  return absl::OkStatus();
}

absl::Status RealDaemon::OpenRoots(std::string_view holder) {
  TANDEM_ASSIGN_OR_RETURN(
      std::vector<FileLock> locks,
      TakeRoots(paths_, {.store = store_.get(), .registry = registry_.get(), .jobs = jobs_.get()}, holder, &notices_));
  std::move(locks.begin(), locks.end(), std::back_inserter(locks_));
  for (const fs::path& root : {paths_.serving, paths_.training}) CleanRunFolder(root);
  for (const fs::path& folder : {paths_.checkpoints(), paths_.datasets()}) TANDEM_RETURN_IF_ERROR(MakeFolders(folder));
  WakeFormerTrainers(paths_);
  TANDEM_ASSIGN_OR_RETURN(artifacts_, storage::ArtifactStore::Open(paths_.artifacts(), &serving_pace_));
  return absl::OkStatus();
}

absl::Status RealDaemon::MakeEngines() {
  TANDEM_ASSIGN_OR_RETURN(isolation_, isolation::Isolation::Create({.instance = Sha256Hex(settings_.data).substr(0, 12),
                                                                    .disk_folder = paths_.training.string(),
                                                                    .wanted = settings_.isolation.rung,
                                                                    .budget_ms = settings_.isolation.budget_ms}));
  topology_ = isolation::ReadTopology();
  training_ = ResolveTraining(settings_.training, topology_);
  children_ = std::make_unique<Children>(ChildrenParts{.isolation = isolation_.get(),
                                                       .run_folder = paths_.run(),
                                                       .models = paths_.artifacts(),
                                                       .serving_pace = &serving_pace_,
                                                       .training_pace = &training_pace_});
  io_threads_ = settings_.http.io_threads > 0 ? static_cast<int>(settings_.http.io_threads) : topology_.usable_cpus;
  CatalogSettings catalog{.choose = ChoosesEngines()};
  if (!catalog.choose) catalog.engine = settings_.serving.engine;
  catalog_ = std::make_unique<ModelCatalog>(registry_.get(), artifacts_.get(), catalog);
  serving::ServingSettings serving;
  serving.instances = settings_.serving.instances > 0 ? static_cast<int>(settings_.serving.instances) : io_threads_;
  serving.queue_limit = static_cast<int>(settings_.serving.queue_limit);
  serving.memory_limit_bytes = settings_.serving.memory_bytes;
  serving.prepare_timeout_s = settings_.serving.prepare_timeout_s;
  serving.cpu_budget = &budget_;
  serving.spawn_service = [this](const std::vector<std::string>& argv, int socket) {
    return children_->Serve(argv, socket);
  };
  serving.response_cache_bytes = settings_.serving.response_cache_bytes;
  auto spawn = [this](const std::vector<std::string>& argv, double timeout_s) {
    return children_->Run(argv, timeout_s);
  };
  serving_ = serving::Serving::Create(serving, spawn, &metrics_, clock_, catalog_->Events());
  catalog_->AttachServing(serving_.get());
  return MakeGovernor();
}

absl::Status RealDaemon::MakeGovernor() {
  // What the book has is what ToYaml wrote; a newer tandem may have written what this one does not read.
  PolicyRevision current = book_->Current();
  absl::StatusOr<spec::SharingSpec> sharing =
      spec::ParseSharing(current.text, StrCat("policy revision ", current.revision));
  if (!sharing.ok()) {
    notices_.push_back(StrCat("the sharing policy of revision ", current.revision,
                              " cannot be read; the settings' is in force: ", MessageOf(sharing.status())));
    sharing = settings_.sharing;
  }
  TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<const Rules> rules, MakeRules(*std::move(sharing)));
  GovernorParts parts{
      .clock = clock_,
      .isolation = isolation_.get(),
      .serving = serving_.get(),
      .budget = &budget_,
      .book = book_.get(),
      .catalog = catalog_.get(),
      .set_serving_disk = [this](const isolation::GroupLimits& limits) { return children_->SetServingDisk(limits); },
      .set_training_rate = [this](double bytes_per_s) { children_->SetTrainingRate(bytes_per_s); },
      .cpus = topology_.usable_cpus,
      .training_threads = training_.threads,
      .training_memory_bytes = training_.memory_bytes,
      .memory_bytes = topology_.memory_bytes,
      .max_running_jobs = training_.max_running_jobs,
      .default_slo_ms = settings_.serving.slo_ms};
  governor_ = std::make_unique<Governor>(parts, std::move(rules));
  return absl::OkStatus();
}

absl::Status RealDaemon::MakeDoors() {
  api::Services services{.inference = inference_.get(),
                         .models = models_.get(),
                         .jobs = jobs_service_.get(),
                         .datasets = datasets_.get(),
                         .admin = admin_.get(),
                         .sharing = sharing_.get(),
                         .metrics = &metrics_};
  const spec::TelemetrySection& telemetry = settings_.telemetry;
  if (!telemetry.otlp_endpoint.empty()) {
    TANDEM_ASSIGN_OR_RETURN(exporter_, TraceExporter::Create({.endpoint = telemetry.otlp_endpoint,
                                                              .service_name = telemetry.service_name,
                                                              .ratio = telemetry.trace_ratio},
                                                             &metrics_));
    services.tracer = exporter_->tracer();
  }
  const UploadPaces paces{.models = &serving_pace_, .datasets = &training_pace_};
  TANDEM_ASSIGN_OR_RETURN(doors_, Doors::Create(settings_, paths_, services, isolation_.get(), paces, io_threads_));
  admin_->SetIdentity({.started_nanos = clock_->MonotonicNanos(),
                       .data = settings_.data,
                       .http = doors_->http_address(),
                       .grpc = doors_->grpc_address(),
                       .metrics = doors_->metrics_address(),
                       .notices = notices_});
  for (FileLock& lock : locks_)
    TANDEM_RETURN_IF_ERROR(lock.SetContent(StrCat("pid=", getpid(), " url=http://", doors_->http_address())));
  return absl::OkStatus();
}

absl::Status RealDaemon::Run() {
  TANDEM_RETURN_IF_ERROR(doors_->Start());
  catalog_->Sync();
  if (repository_) repository_->Start();
  deployer_->Notify();
  Log(LogLevel::kInfo, "tandemd serves",
      {{"version", kVersion},
       {"http", doors_->http_address()},
       {"grpc", doors_->grpc_address()},
       {"metrics", doors_->metrics_address()},
       {"data", settings_.data},
       {"pid", static_cast<int>(getpid())}});
  if (exporter_) {
    Log(LogLevel::kInfo, "requests are traced",
        {{"endpoint", settings_.telemetry.otlp_endpoint}, {"ratio", settings_.telemetry.trace_ratio}});
  }
  const isolation::Capabilities capabilities = isolation_->capabilities();
  Log(LogLevel::kInfo, "isolation",
      {{"rung", isolation::RungName(capabilities.rung)}, {"why", capabilities.explanation}});
  for (const std::string& sentence : capabilities.not_enforced)
    Log(LogLevel::kInfo, "not enforced on this machine", {{"what", sentence}});
  absl::Status status = absl::OkStatus();
  int64_t next_sample = 0;
  while (!stop_ && status.ok()) {
    loop_->Step();
    if (clock_->MonotonicNanos() >= next_sample) {
      sampler_->Sample();
      governor_->meter().Record(clock_->UnixMillis());
      jobs_service_->SubmitDue();
      canary_watch_->Step();
      next_sample = clock_->MonotonicNanos() + kSampleNanos;
    }
    const bool taken_in = repository_ == nullptr || repository_->FirstStepDone();
    if (!inference_->Ready() && taken_in && serving_->Settled()) status = AnnounceReady();
    loop_->WaitForWork(kStepMillis);
  }
  Shutdown();
  return status;
}

absl::Status RealDaemon::AnnounceReady() {
  inference_->SetReady(true);
  if (settings_.ready_file.empty()) return absl::OkStatus();
  nlohmann::ordered_json ready = {{"http", doors_->http_address()},
                                  {"grpc", doors_->grpc_address()},
                                  {"metrics", doors_->metrics_address()},
                                  {"pid", getpid()}};
  return Annotate(WriteFileAtomically(settings_.ready_file, ready.dump() + "\n"), "ready file");
}

void RealDaemon::RequestStop() {
  stop_ = true;
  loop_->Wake();
}

void RealDaemon::StopHelpers() {
  deployer_->Stop();
  choice_->Stop();
  if (repository_) repository_->Stop();
  children_->Abort();
}

void RealDaemon::Shutdown() {
  Log(LogLevel::kInfo, "tandemd stops", {{"jobs_running", !loop_->Idle()}});
  inference_->SetReady(false);
  loop_->BeginStop();
  StopHelpers();
  // Requests are answered while the jobs write their checkpoints.
  const int64_t deadline =
      clock_->MonotonicNanos() + static_cast<int64_t>((settings_.stop_timeout_s - kStopReserveSeconds) * 1e9);
  while (!loop_->Idle() && clock_->MonotonicNanos() < deadline) {
    loop_->Step();
    loop_->WaitForWork(kStepMillis);
  }
  if (!loop_->Idle()) Log(LogLevel::kWarning, "a job did not leave in time; it goes on from its last checkpoint", {});
  events_.Close();  // not before: who follows a job would be answered at once and ask again, for as long as it leaves
  // All the time that is left: a request that waits for a batch may need it. Nothing is waited for when none is
  // in flight.
  const double left_s = static_cast<double>(std::max<int64_t>(deadline - clock_->MonotonicNanos(), 0)) / 1e9;
  doors_->Stop(left_s + kStopReserveSeconds / 2);
  if (exporter_) exporter_->Stop(kFlushSeconds);
  std::error_code error;
  if (!settings_.ready_file.empty()) fs::remove(settings_.ready_file, error);
  Log(LogLevel::kInfo, "tandemd has stopped");
}

}  // namespace tandem::daemon
