#pragma once
// A loaded version: weights, instances, and the way to them.
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serving/runner.h"
#include "serving/serving.h"
#include "serving/version_metrics.h"

namespace tandem::serving {

// Thread-safe but for its destruction, which frees weights and belongs on the loader's thread.
class Version : public LoadedVersion {
 public:
  // Makes and warms the first instances. InvalidArgument when the configuration does not fit the model.
  static absl::StatusOr<std::unique_ptr<Version>> Create(const std::string& model, const DesiredVersion& spec,
                                                         std::unique_ptr<engine::LoadedModel> loaded,
                                                         const ServingSettings& settings, DataPlane* plane,
                                                         Clock* clock, std::shared_ptr<VersionMetrics> metrics);

  const std::string& model() const override { return model_; }
  int32_t version() const override { return version_; }
  const std::vector<TensorSignature>& inputs() const override;
  const std::vector<TensorSignature>& outputs() const override;
  const std::string& engine() const override { return engine_; }

  void Submit(Request* request) const override { runner_->Submit(request, true); }
  // The same for a thread that is none of the data plane's: it never runs the request itself.
  void SubmitFromAfar(Request* request) const { runner_->Submit(request, false); }
  const spec::ModelConfig& config() const override { return config_; }
  bool ServesSequences() const override { return runner_->layout() != nullptr; }
  bool Continues(const Request& request) const override { return runner_->Continues(request); }
  bool HasOpenSequences() const { return runner_->HasOpenSequences(); }
  absl::Status RunInBackground(const std::vector<Request::Input>& inputs, std::vector<Tensor>* outputs) const override;
  void Record(bool ok, int64_t rows, int64_t total_ns, int64_t queue_ns, int64_t input_ns, int64_t infer_ns,
              int64_t output_ns) const override;
  Statistics ReadStatistics() const override { return metrics_->Read(); }
  HistogramSnapshot ReadLatency() const override { return metrics_->request_us.Read(); }
  LoadNow ReadLoad() const override;

  // The loader's thread calls it about once a second, and gives how many instances there are: where the configuration
  // leaves their number open, it follows the requests. may_grow: there is memory for one more.
  int AdjustInstances(bool may_grow = true) { return runner_->AdjustInstances(may_grow); }
  bool HasTooManyInstances() const { return runner_->HasTooMany(); }
  // The loader's thread, before it serves. False where there may be no more, or it failed.
  bool AddInstance() { return runner_->Grow(true); }
  int instances() const { return runner_->instances(); }

 private:
  Version(const std::string& model, const DesiredVersion& spec, std::unique_ptr<engine::LoadedModel> loaded,
          Clock* clock, std::shared_ptr<VersionMetrics> metrics);

  const std::string model_, engine_;
  const int32_t version_;
  const spec::ModelConfig config_;
  Clock* const clock_;
  const std::shared_ptr<VersionMetrics> metrics_;
  const std::unique_ptr<engine::LoadedModel> loaded_;  // before the instances: destroyed after them
  std::unique_ptr<ModelRunner> runner_;                // set by Create
  mutable std::mutex background_mutex_;                // one background run at a time
};

}  // namespace tandem::serving
