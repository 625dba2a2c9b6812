#pragma once
// The one Daemon: its parts in the order of their making, and the steps that make them. daemon.cc has the steps from
// the data folder to the doors, and the life between start and stop; daemon_services.cc has the services.
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "accounting/accounting.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/paced_writer.h"
#include "daemon/admin_service.h"
#include "daemon/canary_watch.h"
#include "daemon/children.h"
#include "daemon/control_loop.h"
#include "daemon/daemon.h"
#include "daemon/datasets_service.h"
#include "daemon/deployer.h"
#include "daemon/doors.h"
#include "daemon/engine_choice.h"
#include "daemon/governor.h"
#include "daemon/host_sampler.h"
#include "daemon/housekeeper.h"
#include "daemon/inference_service.h"
#include "daemon/job_events.h"
#include "daemon/job_pauses.h"
#include "daemon/job_starter.h"
#include "daemon/jobs_service.h"
#include "daemon/model_catalog.h"
#include "daemon/model_repository.h"
#include "daemon/models_service.h"
#include "daemon/paths.h"
#include "daemon/policy_book.h"
#include "daemon/sharing_service.h"
#include "daemon/trace_exporter.h"
#include "isolation/isolation.h"
#include "jobs/job_store.h"
#include "jobs/recurring.h"
#include "registry/registry.h"
#include "serving/cpu_budget.h"
#include "serving/serving.h"
#include "spec/settings.h"
#include "storage/store.h"
#include "telemetry/metrics.h"

namespace tandem::daemon {

// Made by Daemon::Create only. Thread-compatible, but for RequestStop.
class RealDaemon : public Daemon {
 public:
  explicit RealDaemon(const spec::Settings& settings) : settings_(settings), paths_(settings) {}

  // Makes every part. Once; after an error it may only be destroyed.
  absl::Status Init();
  absl::Status Run() override;
  void RequestStop() override;
  bool HangsInEngine() override { return deployer_->StopAndTellHang(); }

 private:
  // The steps of Init, in their order.
  absl::Status OpenStores();
  // Each side's files, wherever they lie.
  absl::Status OpenRoots(std::string_view holder);
  absl::Status MakeEngines();
  absl::Status MakeGovernor();
  void MakeServices();
  // The folder of models, where one is given.
  absl::Status MakeRepository();
  absl::Status MakeDoors();
  bool ChoosesEngines() const { return settings_.serving.engine == "auto"; }

  // The steps of MakeServices, in their order; first what runs jobs, and what looks after the machine meanwhile.
  void MakeControl();
  // The verbs of api/service.h, but for the admin's.
  void MakeVerbs();
  void MakeAdmin();
  void AddMetricSources();
  // What brings new versions into service.
  void MakeDeployment();

  absl::Status AnnounceReady();
  // Those who want helpers first, so that none takes the end of one for a failure.
  void StopHelpers();
  void Shutdown();

  // Members in the order of their making; taken down in reverse.
  const spec::Settings settings_;
  const Paths paths_;
  Clock* const clock_ = Clock::Real();
  std::atomic<bool> stop_{false};
  std::vector<FileLock> locks_;  // of the data folder first, and of every other root
  std::vector<std::string> notices_;
  Metrics metrics_;
  // Of what this process itself writes of models, and for training: each side's disk_write.
  PacedWriter serving_pace_{0}, training_pace_{0};
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<storage::ArtifactStore> artifacts_;
  std::unique_ptr<registry::Registry> registry_;
  std::unique_ptr<jobs::JobStore> jobs_;
  std::unique_ptr<jobs::RecurringStore> recurring_;
  std::unique_ptr<accounting::Accounting> accounting_;
  std::unique_ptr<PolicyBook> book_;
  std::unique_ptr<isolation::Isolation> isolation_;
  isolation::Topology topology_;
  TrainingSettings training_;
  int io_threads_ = 1;
  std::unique_ptr<Children> children_;
  std::unique_ptr<ModelCatalog> catalog_;
  serving::CpuBudget budget_;
  std::unique_ptr<serving::Serving> serving_;
  std::unique_ptr<CanaryWatch> canary_watch_;
  std::unique_ptr<Governor> governor_;
  JobEvents events_;
  std::unique_ptr<EngineChoice> choice_;
  std::unique_ptr<Deployer> deployer_;
  std::unique_ptr<JobStarter> starter_;
  std::unique_ptr<JobPauses> pauses_;
  std::unique_ptr<ControlLoop> loop_;
  std::unique_ptr<Housekeeper> housekeeper_;
  std::unique_ptr<HostSampler> sampler_;
  std::unique_ptr<InferenceService> inference_;
  std::unique_ptr<ModelsService> models_;
  std::unique_ptr<JobsService> jobs_service_;
  std::unique_ptr<SharingService> sharing_;
  std::unique_ptr<DatasetsService> datasets_;
  std::unique_ptr<AdminService> admin_;
  std::unique_ptr<ModelRepository> repository_;
  std::unique_ptr<TraceExporter> exporter_;  // null: requests are not traced
  std::unique_ptr<Doors> doors_;
};

}  // namespace tandem::daemon
