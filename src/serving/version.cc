#include "serving/version.h"

#include "base/status.h"

namespace tandem::serving {

absl::StatusOr<std::unique_ptr<Version>> Version::Create(const std::string& model, const DesiredVersion& spec,
                                                         std::unique_ptr<engine::LoadedModel> loaded,
                                                         const ServingSettings& settings, DataPlane* plane,
                                                         Clock* clock, std::shared_ptr<VersionMetrics> metrics) {
  std::unique_ptr<Version> version(new Version(model, spec, std::move(loaded), clock, metrics));
  TANDEM_ASSIGN_OR_RETURN(version->runner_,
                          ModelRunner::Create(StrCat("model '", model, "' version ", spec.version), version->config_,
                                              version->loaded_.get(), settings, plane, clock, std::move(metrics)));
  return version;
}

Version::Version(const std::string& model, const DesiredVersion& spec, std::unique_ptr<engine::LoadedModel> loaded,
                 Clock* clock, std::shared_ptr<VersionMetrics> metrics)
    : model_(model),
      engine_(spec.engine),
      version_(spec.version),
      config_(spec.config),
      clock_(clock),
      metrics_(std::move(metrics)),
      loaded_(std::move(loaded)) {}

const std::vector<TensorSignature>& Version::inputs() const {
  return runner_->layout() == nullptr ? loaded_->inputs() : runner_->layout()->client_inputs;
}

const std::vector<TensorSignature>& Version::outputs() const {
  return runner_->layout() == nullptr ? loaded_->outputs() : runner_->layout()->client_outputs;
}

LoadNow Version::ReadLoad() const {
  return {.model = model_,
          .version = version_,
          .busy = runner_->busy(),
          .waiting = runner_->waiting(),
          .finished = metrics_->Finished(),
          .executed = metrics_->compute_count.Value() + metrics_->backend_fail_count.Value(),
          .busy_ns = metrics_->busy_ns.Value()};
}

absl::Status Version::RunInBackground(const std::vector<Request::Input>& inputs, std::vector<Tensor>* outputs) const {
  Request request;
  request.inputs = inputs;
  request.outputs = std::move(*outputs);
  std::lock_guard lock(background_mutex_);
  absl::Status status = runner_->RunInBackground(&request);
  *outputs = std::move(request.outputs);
  return status;
}

void Version::Record(bool ok, int64_t rows, int64_t total_ns, int64_t queue_ns, int64_t input_ns, int64_t infer_ns,
                     int64_t output_ns) const {
  if (!ok) return metrics_->AddFailure(total_ns, queue_ns, infer_ns);
  metrics_->AddSuccess(rows, total_ns, queue_ns, input_ns, infer_ns, output_ns);
  metrics_->last_inference_ms.store(clock_->UnixMillis(), std::memory_order_relaxed);
}

}  // namespace tandem::serving
