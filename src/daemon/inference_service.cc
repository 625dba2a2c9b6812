#include "daemon/inference_service.h"

#include "base/status.h"

namespace tandem::daemon {
namespace {

class Session : public api::InferSession {
 public:
  Session(serving::ModelHandle handle, Clock* clock)
      : handle_(std::move(handle)),
        clock_(clock),
        version_(StrCat(handle_->version())),
        platform_(StrCat("onnx_", handle_->engine())) {}

  const std::string& model() const override { return handle_->model(); }
  const std::string& version() const override { return version_; }
  const std::string& platform() const override { return platform_; }
  const std::vector<TensorSignature>& inputs() const override { return handle_->inputs(); }
  const std::vector<TensorSignature>& outputs() const override { return handle_->outputs(); }

  absl::Status Run(const std::vector<api::InputTensor>& inputs, std::vector<Tensor>* outputs, int64_t deadline_nanos,
                   api::InferTiming* timing) override {
    std::vector<serving::LoadedVersion::NamedInput> named;
    named.reserve(inputs.size());
    for (const api::InputTensor& input : inputs) {
      named.push_back({input.name, {input.dtype, input.shape, input.data, input.byte_size}});
    }
    if (!inputs.empty() && !inputs[0].shape.empty()) rows_ = inputs[0].shape[0];
    serving::LoadedVersion::Timing spent;
    absl::Status status = handle_->Run(named, outputs, deadline_nanos, &spent);
    timing->queue_ns = spent.queue_ns;
    timing->infer_ns = spent.compute_ns;
    return status;
  }

  void Done(bool ok, const api::InferTiming& timing, int64_t input_ns, int64_t output_ns) override {
    handle_->Record(ok, rows_, clock_->MonotonicNanos() - timing.received_ns, timing.queue_ns, input_ns,
                    timing.infer_ns, output_ns);
  }

 private:
  const serving::ModelHandle handle_;
  Clock* const clock_;
  const std::string version_, platform_;
  int64_t rows_ = 1;
};

}  // namespace

absl::StatusOr<std::unique_ptr<api::InferSession>> InferenceService::Open(std::string_view model,
                                                                          std::string_view version) {
  TANDEM_ASSIGN_OR_RETURN(serving::ModelHandle handle, serving_->Find(model, version));
  return std::make_unique<Session>(std::move(handle), clock_);
}

std::vector<std::string> InferenceService::ReadyVersions(std::string_view model) {
  std::vector<std::string> versions;
  for (int32_t version : serving_->ReadyVersions(model)) versions.push_back(StrCat(version));
  return versions;
}

absl::StatusOr<std::vector<api::ModelStatistics>> InferenceService::Statistics(std::string_view model,
                                                                               std::string_view version) {
  std::vector<api::ModelStatistics> all;
  int32_t only = 0;  // 0 = every version; a version path may also be an alias
  if (!model.empty()) {
    TANDEM_ASSIGN_OR_RETURN(serving::ModelHandle handle, serving_->Find(model, version));
    if (!version.empty()) only = handle->version();
  }
  for (const serving::VersionStatus& status : serving_->States()) {
    if (status.state != serving::VersionState::kReady || (!model.empty() && status.model != model)) continue;
    if (only != 0 && status.version != only) continue;
    std::string number = StrCat(status.version);
    absl::StatusOr<serving::ModelHandle> handle = serving_->Find(status.model, number);
    if (!handle.ok()) continue;  // unloaded since
    serving::Statistics read = (*handle)->ReadStatistics();
    api::ModelStatistics out{.model = status.model,
                             .version = number,
                             .last_inference_ms = read.last_inference_ms,
                             .inference_count = read.inference_count,
                             .execution_count = read.execution_count};
    out.success = {read.success_count, read.success_ns};
    out.fail = {read.fail_count, read.fail_ns};
    out.queue = {read.queue_count, read.queue_ns};
    out.compute_input = {read.execution_count, read.compute_input_ns};
    out.compute_infer = {read.execution_count, read.compute_infer_ns};
    out.compute_output = {read.execution_count, read.compute_output_ns};
    all.push_back(std::move(out));
  }
  return all;
}

std::vector<api::RepositoryEntry> InferenceService::Repository(bool ready_only) {
  std::vector<api::RepositoryEntry> entries;
  for (const serving::VersionStatus& status : serving_->States()) {
    bool ready = status.state == serving::VersionState::kReady;
    if (ready_only && !ready) continue;
    std::string_view state =
        status.state == serving::VersionState::kFailed ? "UNAVAILABLE" : serving::StateName(status.state);
    entries.push_back({status.model, StrCat(status.version), std::string(state), status.reason});
  }
  return entries;
}

}  // namespace tandem::daemon
