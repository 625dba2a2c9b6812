#include "serving/version.h"

#include <algorithm>

#include "base/status.h"
#include "engine/warm_up.h"
#include "serving/input_check.h"

namespace tandem::serving {

absl::Status Version::Lane::Run(const std::vector<TensorSignature>& signature, const std::vector<NamedInput>& inputs,
                                std::vector<Tensor>* outputs) {
  OrderInputs(signature, inputs, &views);
  return instance->Run(views, outputs);
}

absl::StatusOr<std::unique_ptr<Version>> Version::Create(const std::string& model, const DesiredVersion& spec,
                                                         std::unique_ptr<engine::LoadedModel> loaded,
                                                         const ServingSettings& settings, Clock* clock,
                                                         std::shared_ptr<VersionMetrics> metrics) {
  std::vector<Lane> lanes(settings.instances);
  for (Lane& lane : lanes) {
    TANDEM_ASSIGN_OR_RETURN(lane.instance, loaded->MakeInstance());
    absl::Status warm = engine::WarmUp(*loaded, lane.instance.get());
    if (!warm.ok() && !engine::IsSizeGuessed(*loaded)) return warm;
  }
  return std::unique_ptr<Version>(
      new Version(model, spec, std::move(loaded), std::move(lanes), settings, clock, std::move(metrics)));
}

Version::Version(const std::string& model, const DesiredVersion& spec, std::unique_ptr<engine::LoadedModel> loaded,
                 std::vector<Lane> lanes, const ServingSettings& settings, Clock* clock,
                 std::shared_ptr<VersionMetrics> metrics)
    : model_(model),
      engine_(spec.engine),
      what_(StrCat("model '", model, "' version ", spec.version)),
      version_(spec.version),
      cpu_budget_(settings.cpu_budget),
      max_wait_nanos_(static_cast<int64_t>(settings.max_wait_s * 1e9)),
      clock_(clock),
      metrics_(std::move(metrics)),
      loaded_(std::move(loaded)),
      lanes_(std::move(lanes)),
      pool_(static_cast<int>(lanes_.size()), settings.queue_limit, &metrics_->pending) {}

absl::Status Version::Run(const std::vector<NamedInput>& inputs, std::vector<Tensor>* outputs, int64_t deadline_nanos,
                          Timing* timing) const {
  *timing = Timing();
  TANDEM_RETURN_IF_ERROR(CheckInputs(what_, loaded_->inputs(), inputs));
  if (cpu_budget_ != nullptr && !cpu_budget_->Admit()) {
    timing->queue_ns = 1;  // counted as rejected
    return Unavailable(what_, ": serving has used its share of the CPU; try again later, or raise serving.cpu",
                       " (tandem policy set)");
  }
  int64_t start = clock_->MonotonicNanos();
  int lane = deadline_nanos == 0 || start < deadline_nanos ? pool_.TryAcquire() : -1;
  if (lane < 0) {
    TANDEM_ASSIGN_OR_RETURN(lane, WaitForLane(start, deadline_nanos, timing));
  }
  absl::Status status = lanes_[lane].Run(loaded_->inputs(), inputs, outputs);
  pool_.Release(lane);
  timing->compute_ns = std::max<int64_t>(1, clock_->MonotonicNanos() - start - timing->queue_ns);
  return status;
}

absl::StatusOr<int> Version::WaitForLane(int64_t start, int64_t deadline_nanos, Timing* timing) const {
  int64_t nanos = deadline_nanos == 0 ? max_wait_nanos_ : std::min(deadline_nanos - start, max_wait_nanos_);
  timing->queue_ns = 1;
  if (nanos <= 0) return DeadlineExceeded(what_, ": the request's deadline had passed when it arrived");
  absl::StatusOr<int> lane = pool_.Wait(nanos, what_);
  timing->queue_ns = std::max<int64_t>(1, clock_->MonotonicNanos() - start);
  return lane;
}

LoadNow Version::ReadLoad() const {
  return {.model = model_,
          .version = version_,
          .busy = pool_.busy(),
          .waiting = pool_.waiting(),
          .finished = metrics_->Finished(),
          .compute_ns = metrics_->infer_ns.Value()};
}

absl::Status Version::RunInBackground(const std::vector<NamedInput>& inputs, std::vector<Tensor>* outputs) const {
  TANDEM_RETURN_IF_ERROR(CheckInputs(what_, loaded_->inputs(), inputs));
  std::lock_guard lock(background_mutex_);
  if (background_.instance == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(background_.instance, loaded_->MakeInstance());
  }
  return background_.Run(loaded_->inputs(), inputs, outputs);
}

void Version::Record(bool ok, int64_t rows, int64_t total_ns, int64_t queue_ns, int64_t input_ns, int64_t infer_ns,
                     int64_t output_ns) const {
  if (!ok) return metrics_->AddFailure(total_ns, queue_ns, infer_ns);
  metrics_->AddSuccess(rows, total_ns, queue_ns, input_ns, infer_ns, output_ns);
  metrics_->last_inference_ms.store(clock_->UnixMillis(), std::memory_order_relaxed);
}

}  // namespace tandem::serving
