#pragma once
// A loaded version: weights, instances, and the way to them.
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serving/instance_pool.h"
#include "serving/serving.h"
#include "serving/version_metrics.h"

namespace tandem::serving {

// Thread-safe but for its destruction, which frees weights and belongs on the loader's thread.
class Version : public LoadedVersion {
 public:
  // Makes and warms the instances.
  static absl::StatusOr<std::unique_ptr<Version>> Create(const std::string& model, const DesiredVersion& spec,
                                                         std::unique_ptr<engine::LoadedModel> loaded,
                                                         const ServingSettings& settings, Clock* clock,
                                                         std::shared_ptr<VersionMetrics> metrics);

  const std::string& model() const override { return model_; }
  int32_t version() const override { return version_; }
  const std::vector<TensorSignature>& inputs() const override { return loaded_->inputs(); }
  const std::vector<TensorSignature>& outputs() const override { return loaded_->outputs(); }
  const std::string& engine() const override { return engine_; }

  absl::Status Run(const std::vector<NamedInput>& inputs, std::vector<Tensor>* outputs, int64_t deadline_nanos,
                   Timing* timing) const override;
  absl::Status RunInBackground(const std::vector<NamedInput>& inputs, std::vector<Tensor>* outputs) const override;
  void Record(bool ok, int64_t rows, int64_t total_ns, int64_t queue_ns, int64_t input_ns, int64_t infer_ns,
              int64_t output_ns) const override;
  Statistics ReadStatistics() const override { return metrics_->Read(); }
  HistogramSnapshot ReadLatency() const override { return metrics_->request_us.Read(); }
  LoadNow ReadLoad() const override;

 private:
  struct Lane {
    std::unique_ptr<engine::Instance> instance;
    std::vector<engine::InputView> views;  // kept for its memory
    absl::Status Run(const std::vector<TensorSignature>& signature, const std::vector<NamedInput>& inputs,
                     std::vector<Tensor>* outputs);
  };

  Version(const std::string& model, const DesiredVersion& spec, std::unique_ptr<engine::LoadedModel> loaded,
          std::vector<Lane> lanes, const ServingSettings& settings, Clock* clock,
          std::shared_ptr<VersionMetrics> metrics);
  // Gives a lane; sets timing->queue_ns.
  absl::StatusOr<int> WaitForLane(int64_t start, int64_t deadline_nanos, Timing* timing) const;

  const std::string model_, engine_, what_;  // what_: "model 'x' version 3", for messages
  const int32_t version_;
  CpuBudget* const cpu_budget_;
  const int64_t max_wait_nanos_;
  Clock* const clock_;
  const std::shared_ptr<VersionMetrics> metrics_;

  const std::unique_ptr<engine::LoadedModel> loaded_;  // before the instances: destroyed after them
  mutable std::vector<Lane> lanes_;                    // each guarded by holding its number of pool_
  mutable InstancePool pool_;

  mutable std::mutex background_mutex_;
  mutable Lane background_;  // guarded by background_mutex_; made when first used, it doubles the memory
};

}  // namespace tandem::serving
