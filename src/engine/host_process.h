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
  // Waits until the child has loaded; Cancelled once `stop_fd` is readable.
  static absl::StatusOr<std::unique_ptr<HostProcess>> Start(const RemoteOptions& options, int stop_fd);

  const std::vector<TensorSignature>& inputs() const { return inputs_; }
  const std::vector<TensorSignature>& outputs() const { return outputs_; }
  Service& service() const { return *service_; }

  // A new instance in the child.
  absl::StatusOr<std::unique_ptr<RunLink>> MakeLink(const RemoteOptions& options, int stop_fd);
  // Hangs up (POLLHUP) when the child has ended.
  int control_fd() const { return control_.get(); }

 private:
  HostProcess(std::unique_ptr<Service> service, UniqueFd control)
      : service_(std::move(service)), control_(std::move(control)) {}
  absl::StatusOr<wire::FromHost> Receive(const RemoteOptions& options, std::string_view doing, int stop_fd);

  std::vector<TensorSignature> inputs_, outputs_;
  const std::unique_ptr<Service> service_;
  const UniqueFd control_;
  int made_ = 0;
};

}  // namespace tandem::engine
