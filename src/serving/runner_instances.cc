// Making a runner, and how many instances it has.
#include <algorithm>

#include "base/status.h"
#include "engine/warm_up.h"
#include "serving/input_check.h"
#include "serving/runner.h"

namespace tandem::serving {
namespace {

// Every input and output must have rows.
absl::Status CheckFirstDimensions(std::string_view what, const std::vector<TensorSignature>& tensors,
                                  std::string_view side) {
  for (const TensorSignature& tensor : tensors) {
    if (!tensor.shape.empty() && tensor.shape[0] == -1) continue;
    return InvalidArgument(what, ": ", side, " '", tensor.name, "' has shape ", ToString(tensor.shape),
                           ", must begin with -1 where requests are merged; set max_batch_size: 0");
  }
  return absl::OkStatus();
}

constexpr int64_t kMaxBatchBytes = int64_t{64} << 20;  // of inputs of a batch that nobody asked to warm

int64_t Nanos(double ms) { return static_cast<int64_t>(ms * 1e6); }

}  // namespace

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(std::string what, const spec::ModelConfig& config,
                                                                 engine::LoadedModel* model,
                                                                 const ServingSettings& settings, DataPlane* plane,
                                                                 Clock* clock,
                                                                 std::shared_ptr<VersionMetrics> metrics) {
  LaneContext context{std::move(what), BatchRules(config), model, {}, clock, metrics.get()};
  if (context.rules.merges()) {
    TANDEM_RETURN_IF_ERROR(CheckFirstDimensions(context.what, model->inputs(), "input"));
    TANDEM_RETURN_IF_ERROR(CheckFirstDimensions(context.what, model->outputs(), "output"));
  }
  if (!config.sequence.strategy.empty()) {
    TANDEM_ASSIGN_OR_RETURN(context.sequences,
                            SequenceLayout::Create(context.what, config, model->inputs(), model->outputs()));
  }
  std::unique_ptr<ModelRunner> runner(
      new ModelRunner(std::move(context), config, model, settings, plane, std::move(metrics)));
  for (int i = 0; i < runner->min_instances_; ++i) TANDEM_RETURN_IF_ERROR(runner->AddLane(true));
  return runner;
}

ModelRunner::ModelRunner(LaneContext context, const spec::ModelConfig& config, engine::LoadedModel* model,
                         const ServingSettings& settings, DataPlane* plane, std::shared_ptr<VersionMetrics> metrics)
    : QueuedModel(context.rules),
      context_(std::move(context)),
      background_context_(context_),
      config_(config),
      model_(model),
      plane_(plane),
      executor_(&plane->executor),
      cpu_budget_(settings.cpu_budget),
      metrics_(std::move(metrics)),
      load_number_(++plane->loads),
      may_run_at_once_(!context_.rules.merges() && !context_.sequences),
      caches_(config.response_cache && !context_.sequences),  // there the same request has another answer each time
      priority_(std::clamp(config.priority, 1, 10)),
      // What the model does not say is the server's.
      queue_limit_(config.queue_limit != spec::ModelConfig().queue_limit ? config.queue_limit : settings.queue_limit),
      min_instances_(std::clamp(config.instances, 1, InstancePool::kMax)),
      max_instances_(config.instances > 0
                         ? min_instances_
                         : std::clamp(config.max_instances > 0 ? config.max_instances : settings.instances, 1,
                                      InstancePool::kMax)),
      queue_bytes_(static_cast<size_t>(config.queue_bytes)),
      timeout_ns_(config.timeout_ms > 0 ? Nanos(config.timeout_ms) : Nanos(settings.max_wait_s * 1e3)),
      slo_ns_(Nanos(config.slo_ms)) {
  pending_ = &metrics_->pending;
  background_context_.metrics = nullptr;
  if (context_.sequences) sequences_.emplace(context_.what, config.sequence);
  executor_->AddLoaded(priority_);
}

ModelRunner::~ModelRunner() { executor_->RemoveLoaded(priority_); }

absl::Status ModelRunner::WarmUp(Lane* lane) const {
  std::vector<int> sizes = config_.warm_up_batch_sizes;
  if (sizes.empty()) sizes.push_back(1);
  for (int rows : sizes) {
    absl::Status warm = lane->WarmUp(rows, engine::kMaxWarmUpBytes);
    if (!warm.ok() && !engine::IsSizeGuessed(*model_)) return warm;
  }
  return absl::OkStatus();
}

void ModelRunner::WarmUpBatches(Lane* lane) {
  // A lazy model is loaded because requests wait for it.
  if (config_.lazy || !config_.warm_up_batch_sizes.empty() || context_.rules.max_rows < 2) return;
  std::vector<int64_t> sizes = {1};  // once more: the first run of all took longer than those that follow
  sizes.insert(sizes.end(), context_.rules.sizes.begin(), context_.rules.sizes.end());
  sizes.push_back(context_.rules.max_rows);
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  // A child whose run takes too long is ended.
  const int64_t longest_ns = Nanos(config_.run_timeout_s * 1e3) / 2;
  int64_t row_ns = 0;
  for (int64_t rows : sizes) {
    if (row_ns > std::min(warm_up_left_ns_, longest_ns) / rows) return;
    const int64_t begin = context_.clock->MonotonicNanos();
    const absl::Status warm = CatchToStatus(context_.what, [&] { return lane->WarmUp(rows, kMaxBatchBytes); });
    const int64_t took = context_.clock->MonotonicNanos() - begin;
    warm_up_left_ns_ -= took;
    row_ns = took / rows;
    if (!warm.ok()) return;  // no reason not to serve: a batch that fails is run again, each request alone
  }
}

absl::StatusOr<std::unique_ptr<engine::Instance>> ModelRunner::MakeInstance() {
  std::lock_guard lock(make_mutex_);
  return model_->MakeInstance();
}

absl::Status ModelRunner::AddLane(bool batches) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<engine::Instance> instance, MakeInstance());
  auto lane = std::make_unique<Lane>(&context_, std::move(instance));
  TANDEM_RETURN_IF_ERROR(WarmUp(lane.get()));
  if (batches) WarmUpBatches(lane.get());
  lane->StartRequests();
  lane->used_ns = context_.clock->MonotonicNanos();
  lanes_[pool_.size()] = std::move(lane);
  pool_.Add();
  return absl::OkStatus();
}

absl::Status ModelRunner::RunInBackground(Request* request) {
  const auto& inputs = context_.sequences ? context_.sequences->client_inputs : model_->inputs();
  TANDEM_RETURN_IF_ERROR(CheckInputs(context_.what, inputs, &request->inputs));
  if (background_ == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<engine::Instance> instance, MakeInstance());
    background_ = std::make_unique<Lane>(&background_context_, std::move(instance));
  }
  OpenSequence alone;
  request->waiting.sequence = &alone;
  request->sequence.start = request->sequence.end = true;
  request->rows =
      request->inputs.empty() || request->inputs[0].view.shape.empty() ? 1 : request->inputs[0].view.shape[0];
  background_->Run({request}, context_.clock->MonotonicNanos());
  return request->status;
}

int ModelRunner::AdjustInstances(bool may_grow) {
  if (max_instances_ <= min_instances_) return pool_.size();
  const uint64_t executions = metrics_->executions.Value(), starved = starved_ns_.Value();
  const uint64_t ran = executions - seen_executions_, waited = starved - seen_starved_ns_;
  seen_executions_ = executions;
  seen_starved_ns_ = starved;
  const int last = pool_.size() - 1;
  const int64_t used_ns = lanes_[last]->used_ns.load(std::memory_order_relaxed);
  switch (JudgeInstances({.now = last + 1,
                          .least = min_instances_,
                          .most = MostInstances(),
                          .ran = ran,
                          .waited_ns = waited,
                          .bearable_ns = static_cast<double>(slo_ns_ > 0 ? slo_ns_ : service_.nanos()) / 10,
                          .idle_ns = context_.clock->MonotonicNanos() - used_ns,
                          .may_grow = may_grow})) {
    case InstanceChange::kOneMore:
      // The instances that there are go on: a failure to make one more is no failure of the model. Requests wait for
      // it now, so batches are not warmed.
      Grow(false);
      break;
    case InstanceChange::kOneLess:
      if (pool_.TryRemove()) lanes_[last].reset();
      break;
    case InstanceChange::kNone:
      break;
  }
  return pool_.size();
}

}  // namespace tandem::serving
