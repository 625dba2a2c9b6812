#pragma once
// The server's side of one `tandem-engine-host serve`: started, loaded, asked for instances. Internal to this module.
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/remote.h"
#include "engine/run_link.h"

namespace tandem::engine {

// Killed when destroyed. MakeLink: one call at a time; the rest is thread-safe.
class HostProcess {
 public:
  ~HostProcess();
  // Waits until the child has loaded; Cancelled once `stop_fd` is readable.
  static absl::StatusOr<std::unique_ptr<HostProcess>> Start(const RemoteOptions& options, int stop_fd);

  const std::vector<TensorSignature>& inputs() const { return inputs_; }
  const std::vector<TensorSignature>& outputs() const { return outputs_; }
  Service& service() const { return *service_; }

  // A new instance in the child, for no requests.
  absl::StatusOr<std::unique_ptr<RunLink>> MakeLink(const RemoteOptions& options, int stop_fd);
  // Its thread answers requests from now on.
  void StartRequests(const RunLink& link);
  // It is about to be destroyed.
  void EndLink(const RunLink& link) { cpu_->EndThread(service_->pid(), link.thread()); }
  // Hangs up (POLLHUP) when the child has ended.
  int control_fd() const { return control_.get(); }

 private:
  HostProcess(std::unique_ptr<Service> service, UniqueFd control, std::shared_ptr<ChildCpu> cpu)
      : service_(std::move(service)), control_(std::move(control)), cpu_(std::move(cpu)) {}
  absl::StatusOr<wire::FromHost> Receive(const RemoteOptions& options, std::string_view doing, int stop_fd);

  std::vector<TensorSignature> inputs_, outputs_;
  const std::unique_ptr<Service> service_;
  const UniqueFd control_;
  const std::shared_ptr<ChildCpu> cpu_;
  int made_ = 0;
};

}  // namespace tandem::engine
