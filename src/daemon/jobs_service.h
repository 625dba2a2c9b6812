#pragma once
// api::Jobs: submits, shows and steers jobs. The control loop carries them out.
#include "api/service.h"
#include "daemon/control_loop.h"
#include "daemon/housekeeper.h"
#include "daemon/job_pauses.h"
#include "daemon/paths.h"
#include "jobs/recurring.h"
#include "spec/train_spec.h"

namespace tandem::daemon {

// Thread-safe. All outlive it.
struct JobsParts {
  Clock* clock;
  jobs::JobStore* jobs;
  jobs::RecurringStore* recurring;
  registry::Registry* registry;
  isolation::Isolation* isolation;
  Governor* governor;
  Housekeeper* housekeeper;
  ControlLoop* loop;
  JobPauses* pauses;
  JobEvents* events;
};

class JobsService : public api::Jobs {
 public:
  JobsService(const JobsParts& parts, Paths paths, TrainingSettings settings)
      : parts_(parts), paths_(std::move(paths)), settings_(settings) {}

  // Submits what recurring jobs are due. Called about every second, from one thread.
  void SubmitDue();

  absl::StatusOr<wire::Job> Submit(const api::Caller& caller, const wire::SubmitJobRequest& request) override;
  wire::JobList List() override;
  absl::StatusOr<wire::Job> Show(int32_t job) override;
  absl::Status Cancel(const api::Caller& caller, int32_t job) override;
  absl::Status Pause(const api::Caller& caller, int32_t job) override;
  absl::Status Resume(const api::Caller& caller, int32_t job) override;
  absl::Status Delete(const api::Caller& caller, int32_t job) override;
  absl::StatusOr<wire::LogText> Logs(int32_t job, int64_t offset) override;
  absl::StatusOr<std::pair<wire::Job, int64_t>> Watch(int32_t job, int64_t seen_change, double timeout_s) override;
  absl::StatusOr<wire::JobExplanation> Explain(int32_t job) override;
  absl::Status Release(const api::Caller& caller, int32_t job) override;
  wire::RecurringList ListRecurring() override;
  absl::StatusOr<wire::RecurringJob> ShowRecurring(int32_t id) override;
  absl::Status PauseRecurring(const api::Caller& caller, int32_t id, bool paused) override;
  absl::Status DeleteRecurring(const api::Caller& caller, int32_t id) override;

 private:
  absl::Status SetPaused(int32_t job, bool paused);
  // Refuses what cannot work before it is queued, pins `from`, and fills the record.
  absl::StatusOr<jobs::JobRecord> Check(const api::Caller& caller, const spec::TrainSpec& spec);
  absl::StatusOr<wire::Job> SubmitRecurring(const api::Caller& caller, spec::TrainSpec spec);
  absl::StatusOr<int32_t> SubmitRun(const jobs::DueRun& due);
  wire::Job ToWire(const jobs::JobRecord& record) const;

  const JobsParts parts_;
  const Paths paths_;
  const TrainingSettings settings_;
};

}  // namespace tandem::daemon
