#pragma once
// api::Jobs: submits, shows and steers jobs. The control loop carries them out.
#include "api/service.h"
#include "daemon/control_loop.h"

namespace tandem::daemon {

// Thread-safe. All outlive it.
class JobsService : public api::Jobs {
 public:
  JobsService(jobs::JobStore* jobs, registry::Registry* registry, ControlLoop* loop, JobEvents* events, Paths paths,
              TrainingSettings settings)
      : jobs_(jobs), registry_(registry), loop_(loop), events_(events), paths_(std::move(paths)), settings_(settings) {}

  absl::StatusOr<wire::Job> Submit(const api::Caller& caller, const wire::SubmitJobRequest& request) override;
  wire::JobList List() override;
  absl::StatusOr<wire::Job> Show(int32_t job) override;
  absl::Status Cancel(const api::Caller& caller, int32_t job) override;
  absl::Status Pause(const api::Caller& caller, int32_t job) override;
  absl::Status Resume(const api::Caller& caller, int32_t job) override;
  absl::Status Delete(const api::Caller& caller, int32_t job) override;
  absl::StatusOr<wire::LogText> Logs(int32_t job, int64_t offset) override;
  absl::StatusOr<std::pair<wire::Job, int64_t>> Watch(int32_t job, int64_t seen_change, double timeout_s) override;

 private:
  // Refuses what cannot work before it is queued, pins `from`, and fills the record.
  absl::StatusOr<jobs::JobRecord> Check(const api::Caller& caller, const wire::SubmitJobRequest& request);
  wire::Job ToWire(const jobs::JobRecord& record) const;

  jobs::JobStore* const jobs_;
  registry::Registry* const registry_;
  ControlLoop* const loop_;
  JobEvents* const events_;
  const Paths paths_;
  const TrainingSettings settings_;
};

}  // namespace tandem::daemon
