#include "daemon/inference_service.h"

#include <set>
#include <utility>

#include "base/status.h"
#include "serving/router.h"

namespace tandem::daemon {
namespace {

class Session : public api::InferSession, private serving::Request::Owner {
 public:
  Session(serving::Target target, Clock* clock)
      : target_(std::move(target)),
        clock_(clock),
        answering_(target_.handle.get()),
        model_(answering_->model()),
        version_(StrCat(answering_->version())),
        platform_(StrCat("onnx_", answering_->engine())) {}

  const std::string& model() const override { return model_; }
  const std::string& version() const override { return version_; }
  const std::string& platform() const override { return platform_; }
  const std::vector<TensorSignature>& inputs() const override { return target_.handle->inputs(); }
  const std::vector<TensorSignature>& outputs() const override { return target_.handle->outputs(); }
  const spec::ModelConfig& config() const override { return target_.handle->config(); }

  void Start(api::InferRequest* request) override {
    request_ = request;
    run_.owner = this;
    run_.inputs.reserve(request->inputs.size());
    for (const api::InputTensor& input : request->inputs) {
      run_.inputs.push_back({input.name, {input.dtype, input.shape, input.data, input.byte_size}});
    }
    run_.route_key = request->route_key;
    run_.deadline_nanos = request->deadline_ns;
    run_.priority = request->priority;
    run_.in_shared_memory = request->in_shared_memory;
    run_.sequence = {request->sequence.id, request->sequence.text_id, request->sequence.start, request->sequence.end};
    run_.cancelled = &request->cancelled;
    run_.outputs = std::move(request->outputs);
    if (target_.router != nullptr) trip_ = target_.router->Begin(run_);
    if (trip_.handle != nullptr) answering_ = trip_.handle.get();
    if (serving::ModelHandle holder = target_.HolderOf(run_, *answering_)) {
      trip_.handle = std::move(holder);
      answering_ = trip_.handle.get();
    }
    if (answering_->version() != target_.handle->version()) version_ = StrCat(answering_->version());
    answering_->Submit(&run_);
  }

  void Finished(serving::Request* run) override {
    if (target_.router != nullptr) target_.router->End(run_, &trip_);
    request_->status = std::move(run->status);
    request_->outputs = std::move(run->outputs);
    request_->timing.queue_ns = run->queue_ns;
    request_->timing.infer_ns = run->compute_ns;
    request_->timing.cached = run->cached;
    request_->owner->Finished(request_);
  }

  void Done(bool ok, const api::InferTiming& timing, int64_t input_ns, int64_t output_ns) override {
    answering_->Record(ok, run_.rows, clock_->MonotonicNanos() - timing.received_ns, timing.queue_ns, input_ns,
                       timing.infer_ns, output_ns);
    // The answer may be on its way for long: who does not read it shall not keep the version in memory.
    answering_ = nullptr;
    trip_.handle = nullptr;
    target_ = {};
  }

 private:
  serving::Target target_;  // until Done; the signature is the same for all versions that the router may choose
  Clock* const clock_;
  serving::Router::Trip trip_;
  const serving::LoadedVersion* answering_;  // held by target_ or trip_
  const std::string model_;
  std::string version_;
  const std::string platform_;
  serving::Request run_;
  api::InferRequest* request_ = nullptr;
};

api::ModelStatistics ToApi(const serving::VersionStatus& status, const serving::Statistics& sums) {
  api::ModelStatistics out{.model = status.model,
                           .version = StrCat(status.version),
                           .last_inference_ms = sums.last_inference_ms,
                           .inference_count = sums.inference_count,
                           .execution_count = sums.execution_count};
  out.success = {sums.success_count, sums.success_ns};
  out.fail = {sums.fail_count, sums.fail_ns};
  out.queue = {sums.queue_count, sums.queue_ns};
  out.compute_input = {sums.compute_count, sums.compute_input_ns};
  out.compute_infer = {sums.compute_count, sums.compute_infer_ns};
  out.compute_output = {sums.compute_count, sums.compute_output_ns};
  out.cache_hit = {sums.cache_hit_count, sums.cache_hit_ns};
  out.cache_miss = {sums.cache_miss_count, sums.cache_miss_ns};
  for (const serving::Statistics::Batch& batch : sums.batches) {
    out.batches.push_back({.rows = batch.rows,
                           .compute_input = {batch.count, batch.input_ns},
                           .compute_infer = {batch.count, batch.infer_ns},
                           .compute_output = {batch.count, batch.output_ns}});
  }
  out.memory_bytes = status.memory_bytes;
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<api::InferSession>> InferenceService::Open(std::string_view model,
                                                                          std::string_view version) {
  TANDEM_ASSIGN_OR_RETURN(serving::Target target, serving_->Open(model, version));
  return std::make_unique<Session>(std::move(target), clock_);
}

std::vector<std::string> InferenceService::ServedVersions(std::string_view model) {
  std::vector<std::string> versions;
  for (int32_t version : serving_->ServedVersions(model)) versions.push_back(StrCat(version));
  return versions;
}

absl::StatusOr<std::vector<api::ModelStatistics>> InferenceService::Statistics(std::string_view model,
                                                                               std::string_view version) {
  int32_t only = 0;  // 0 = every version; a version path may also be an alias
  if (!model.empty()) {
    absl::StatusOr<serving::ModelHandle> handle = serving_->Find(model, version);
    // Of a model that is not loaded now there is nothing to report; one that is unknown is a mistake.
    if (absl::IsUnavailable(handle.status())) return std::vector<api::ModelStatistics>();
    if (!handle.ok()) return handle.status();
    if (!version.empty()) only = (*handle)->version();
  }
  std::vector<api::ModelStatistics> all;
  for (const serving::VersionStatus& status : serving_->States()) {
    if (status.state != serving::VersionState::kReady || (!model.empty() && status.model != model)) continue;
    if (only != 0 && status.version != only) continue;
    std::string number = StrCat(status.version);
    absl::StatusOr<serving::ModelHandle> handle = serving_->Find(status.model, number);
    if (!handle.ok()) continue;  // unloaded since
    all.push_back(ToApi(status, (*handle)->ReadStatistics()));
  }
  return all;
}

std::vector<api::RepositoryEntry> InferenceService::Repository(bool ready_only) {
  std::vector<api::RepositoryEntry> entries;
  const std::vector<serving::VersionStatus> states = serving_->States();
  // In a swap, of engines too, a version stands twice: what counts is the one that takes new requests.
  std::set<std::pair<std::string, int32_t>> kept;
  for (const serving::VersionStatus& status : states) {
    if (status.state != serving::VersionState::kUnloading) kept.emplace(status.model, status.version);
  }
  for (const serving::VersionStatus& status : states) {
    bool ready = status.state == serving::VersionState::kReady;
    if (ready_only && !ready) continue;
    if (status.state == serving::VersionState::kUnloading && kept.contains({status.model, status.version})) continue;
    std::string_view state =
        status.state == serving::VersionState::kFailed ? "UNAVAILABLE" : serving::StateName(status.state);
    entries.push_back({status.model, StrCat(status.version), std::string(state), status.reason});
  }
  if (ready_only) return entries;
  if (repository_ != nullptr) {
    for (api::RepositoryEntry& entry : repository_->Entries()) entries.push_back(std::move(entry));
  }
  if (registry_ != nullptr) {
    std::set<std::string> listed;
    for (const api::RepositoryEntry& entry : entries) listed.insert(entry.model);
    for (const registry::Model& model : registry_->List()) {
      if (model.enabled || model.versions.empty() || listed.contains(model.name)) continue;
      auto champion = model.aliases.find("champion");
      int32_t version = champion == model.aliases.end() ? model.versions.back().version : champion->second;
      entries.push_back({model.name, StrCat(version), "UNAVAILABLE", "unloaded"});
    }
  }
  return entries;
}

}  // namespace tandem::daemon
