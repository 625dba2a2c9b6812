// The services: what stands behind the doors, and what works for it.
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "daemon/engine_choice_report.h"
#include "daemon/model_join.h"
#include "daemon/real_daemon.h"
#include "daemon/sharing_metrics.h"
#include "daemon/training_metrics.h"
#include "engine/engine.h"

namespace tandem::daemon {
namespace fs = std::filesystem;

void RealDaemon::MakeServices() {
  MakeControl();
  MakeVerbs();
  MakeAdmin();
  AddMetricSources();
  MakeDeployment();
}

void RealDaemon::MakeControl() {
  starter_ = std::make_unique<JobStarter>(StarterParts{.artifacts = artifacts_.get(),
                                                       .registry = registry_.get(),
                                                       .isolation = isolation_.get(),
                                                       .governor = governor_.get(),
                                                       .children = children_.get()},
                                          paths_);
  pauses_ = std::make_unique<JobPauses>(JobPausesParts{
      .clock = clock_, .jobs = jobs_.get(), .hold = [this](int32_t job, bool hold) { governor_->HoldJob(job, hold); }});
  ControlParts parts{.clock = clock_,
                     .store = store_.get(),
                     .artifacts = artifacts_.get(),
                     .jobs = jobs_.get(),
                     .registry = registry_.get(),
                     .governor = governor_.get(),
                     .starter = starter_.get(),
                     .pauses = pauses_.get(),
                     .events = &events_,
                     .on_version = [this] { deployer_->Notify(); }};
  loop_ = std::make_unique<ControlLoop>(parts, training_);
  housekeeper_ = std::make_unique<Housekeeper>(HousekeeperParts{.clock = clock_,
                                                                .isolation = isolation_.get(),
                                                                .accounting = accounting_.get(),
                                                                .governor = governor_.get(),
                                                                .book = book_.get(),
                                                                .loop = loop_.get(),
                                                                .jobs = jobs_.get(),
                                                                .serving = serving_.get()},
                                               paths_);
  sampler_ = std::make_unique<HostSampler>(clock_, loop_.get(), serving_.get());
  canary_watch_ = std::make_unique<CanaryWatch>(catalog_.get(), serving_.get());
}

void RealDaemon::MakeVerbs() {
  inference_ = std::make_unique<InferenceService>(serving_.get(), clock_);
  inference_->AttachRegistry(registry_.get());
  models_ = std::make_unique<ModelsService>(registry_.get(), artifacts_.get(), jobs_.get(), catalog_.get(),
                                            serving_.get(), children_.get(), housekeeper_.get(), accounting_.get(),
                                            paths_, topology_.usable_cpus);
  jobs_service_ = std::make_unique<JobsService>(JobsParts{.clock = clock_,
                                                          .jobs = jobs_.get(),
                                                          .recurring = recurring_.get(),
                                                          .registry = registry_.get(),
                                                          .isolation = isolation_.get(),
                                                          .governor = governor_.get(),
                                                          .housekeeper = housekeeper_.get(),
                                                          .loop = loop_.get(),
                                                          .pauses = pauses_.get(),
                                                          .events = &events_},
                                                paths_, training_);
  sharing_ = std::make_unique<SharingService>(SharingParts{.clock = clock_,
                                                           .isolation = isolation_.get(),
                                                           .serving = serving_.get(),
                                                           .governor = governor_.get(),
                                                           .book = book_.get(),
                                                           .accounting = accounting_.get(),
                                                           .housekeeper = housekeeper_.get(),
                                                           .memory_bytes = topology_.memory_bytes,
                                                           .on_change = [this] { loop_->Wake(); }});
  datasets_ =
      std::make_unique<DatasetsService>(registry_.get(), jobs_.get(), &training_pace_, housekeeper_.get(), paths_);
}

void RealDaemon::MakeAdmin() {
  AdminParts admin{.clock = clock_,
                   .isolation = isolation_.get(),
                   .registry = registry_.get(),
                   .artifacts = artifacts_.get(),
                   .jobs = jobs_.get(),
                   .jobs_service = jobs_service_.get(),
                   .serving = serving_.get(),
                   .sampler = sampler_.get(),
                   .governor = governor_.get(),
                   .housekeeper = housekeeper_.get(),
                   .stop = [this] { RequestStop(); }};
  admin_ = std::make_unique<AdminService>(admin, paths_);
}

void RealDaemon::AddMetricSources() {
  metrics_.AddSource([this](std::vector<MetricFamily>* families) { sampler_->AddHostMetrics(families); });
  metrics_.AddSource([this](std::vector<MetricFamily>* families) { AddTrainingMetrics(*jobs_, families); });
  metrics_.AddSource([this](std::vector<MetricFamily>* families) {
    AddSharingMetrics(*isolation_, *governor_, book_->gate(), *housekeeper_, families);
  });
}

void RealDaemon::MakeDeployment() {
  deployer_ = std::make_unique<Deployer>(DeployerParts{.registry = registry_.get(),
                                                       .catalog = catalog_.get(),
                                                       .serving = serving_.get(),
                                                       .isolation = isolation_.get(),
                                                       .log_folder = paths_.run().string(),
                                                       .patience_s = settings_.serving.prepare_timeout_s,
                                                       .on_change = [this](int32_t job) { events_.Changed(job); }});
  choice_ = std::make_unique<EngineChoice>(
      ChoiceParts{.clock = clock_,
                  .registry = registry_.get(),
                  .accounting = accounting_.get(),
                  .jobs = jobs_.get(),
                  .catalog = catalog_.get(),
                  .serving = serving_.get(),
                  .spawn = [this](const std::vector<std::string>& argv,
                                  double timeout_s) { return children_->Run(argv, timeout_s); },
                  .engines = [] { return ComputingEngines(engine::ListEngines()); },
                  .run_folder = paths_.run(),
                  .prepare_timeout_s = settings_.serving.prepare_timeout_s});
  models_->AttachChoice(choice_.get());
}

absl::Status RealDaemon::MakeRepository() {
  const spec::ServingSection& section = settings_.serving;
  if (section.model_repository.empty()) return absl::OkStatus();
  RepositorySettings settings{.folder = section.model_repository,
                              .poll = section.model_control == "poll",
                              .poll_interval_s = section.poll_interval_s,
                              .memory_file = paths_.root / "repository.json"};
  RepositoryParts parts{
      .clock = clock_,
      .registry = registry_.get(),
      .artifacts = artifacts_.get(),
      .accounting = accounting_.get(),
      .join = [this](const fs::path& file) { return JoinModel(children_.get(), paths_, file); },
      .remove = [this](const std::string& model,
                       int32_t version) { return models_->Delete({.name = "repository"}, model, version); },
      .has_engine = [](std::string_view name) { return engine::OpenEngine(name).ok(); }};
  TANDEM_ASSIGN_OR_RETURN(repository_,
                          ModelRepository::Create(settings, std::move(parts), catalog_.get(), serving_.get()));
  models_->AttachRepository(repository_.get());
  inference_->AttachRepository(repository_.get());
  admin_->AttachRepository(repository_.get());
  return absl::OkStatus();
}

}  // namespace tandem::daemon
