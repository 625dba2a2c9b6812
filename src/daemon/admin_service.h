#pragma once
// api::Admin: status, doctor, garbage collection, log level, stop.
#include <functional>
#include <string>
#include <vector>

#include "api/service.h"
#include "daemon/governor.h"
#include "daemon/host_sampler.h"
#include "daemon/housekeeper.h"
#include "daemon/model_repository.h"
#include "daemon/paths.h"
#include "isolation/isolation.h"
#include "jobs/job_store.h"
#include "registry/registry.h"
#include "storage/store.h"

namespace tandem::daemon {

// What the status shows of the daemon itself; fixed once it started.
struct Identity {
  int64_t started_nanos = 0;
  std::string data, http, grpc, metrics;
  std::vector<std::string> notices;  // what recovery did
};

struct AdminParts {
  Clock* clock;
  isolation::Isolation* isolation;
  registry::Registry* registry;
  storage::ArtifactStore* artifacts;
  jobs::JobStore* jobs;
  api::Jobs* jobs_service;
  serving::Serving* serving;
  HostSampler* sampler;
  Governor* governor;
  Housekeeper* housekeeper;
  std::function<void()> stop;  // begins a clean stop
};

// Thread-safe; SetIdentity comes before the doors open.
class AdminService : public api::Admin {
 public:
  AdminService(const AdminParts& parts, Paths paths) : parts_(parts), paths_(std::move(paths)) {}
  void SetIdentity(Identity identity) { identity_ = std::move(identity); }
  // What the doctor then also looks at. Before the doors open; it outlives this.
  void AttachRepository(const ModelRepository* repository) { repository_ = repository; }

  wire::Status Status() override;
  wire::DoctorReport Doctor() override;
  absl::StatusOr<wire::GcReport> CollectGarbage(const api::Caller& caller, bool dry_run) override;
  void Stop(const api::Caller& caller) override;
  absl::Status SetLogLevel(const api::Caller& caller, std::string_view level) override;

 private:
  const AdminParts parts_;
  const Paths paths_;
  Identity identity_;
  const ModelRepository* repository_ = nullptr;  // null = there is none
};

// Looks at the machine; needs no running daemon (`tandemd doctor`).
wire::DoctorReport ExamineHost(isolation::Isolation& isolation);

}  // namespace tandem::daemon
