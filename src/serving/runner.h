#pragma once
// The data plane of one loaded version: checks and admits requests, runs them at once or through the queue, on as many
// instances as there are.
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "serving/data_plane.h"
#include "serving/instance_pool.h"
#include "serving/instance_rule.h"
#include "serving/lane.h"

namespace tandem::serving {

// How long a run takes, of late. Thread-safe; a lost update does no harm.
class ServiceTime {
 public:
  void Observe(int64_t ns) {
    int64_t old = ns_.load(std::memory_order_relaxed);
    ns_.store(old == 0 ? ns : old + (ns - old) / 8, std::memory_order_relaxed);
  }
  // After a request was refused for it: so that one passes now and then, and the figure is measured again.
  void Doubt() { ns_.store(nanos() - nanos() / 16, std::memory_order_relaxed); }
  int64_t nanos() const { return ns_.load(std::memory_order_relaxed); }  // 0 = not measured

 private:
  std::atomic<int64_t> ns_{0};
};

// Submit and what the executor calls: thread-safe. Creation, destruction and AdjustInstances: the loader's thread.
class ModelRunner : public QueuedModel {
 public:
  // Makes and warms the first instances. `model` and `config` outlive it.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(std::string what, const spec::ModelConfig& config,
                                                             engine::LoadedModel* model,
                                                             const ServingSettings& settings, DataPlane* plane,
                                                             Clock* clock, std::shared_ptr<VersionMetrics> metrics);
  ~ModelRunner() override;

  void Submit(Request* request, bool at_once);
  // On an instance of its own, made when first used; not thread-safe.
  absl::Status RunInBackground(Request* request);
  // Makes an instance or takes one away, as JudgeInstances says; one that is in use stays until a later call. To be
  // called about once a second; cheap when there is nothing to do. Gives how many there are.
  int AdjustInstances(bool may_grow);
  // One instance more, if there may be more and it can be made. `batches`: as AddLane.
  bool Grow(bool batches) { return pool_.size() < MostInstances() && AddLane(batches).ok(); }
  bool HasTooMany() const { return pool_.size() > MostInstances(); }

  int busy() const { return pool_.busy(); }
  int instances() const { return pool_.size(); }
  // Whether the request goes on with a sequence that began here and is open; whether any is.
  bool Continues(const Request& request) const;
  bool HasOpenSequences();
  // Null unless the model serves sequences.
  const SequenceLayout* layout() const { return context_.sequences ? &*context_.sequences : nullptr; }

 private:
  ModelRunner(LaneContext context, const spec::ModelConfig& config, engine::LoadedModel* model,
              const ServingSettings& settings, DataPlane* plane, std::shared_ptr<VersionMetrics> metrics);

  int MostInstances() const {
    return serving::MostInstances(min_instances_, max_instances_,
                                  plane_->instance_bound.load(std::memory_order_relaxed));
  }
  absl::StatusOr<std::unique_ptr<engine::Instance>> MakeInstance();
  // `batches`: with WarmUpBatches, which takes too long for one that requests wait for.
  absl::Status AddLane(bool batches);
  // On the sizes that the configuration gives, else on 1 row.
  absl::Status WarmUp(Lane* lane) const;
  // Unless the configuration gives sizes or the model is lazy, also on those that merged batches will have: each
  // preferred one, and the largest; as far as all instances together need no more than warm_up_left_ns_ for it. So the
  // first full batches after a swap do not pay for what an engine allocates and compiles the first time.
  void WarmUpBatches(Lane* lane);

  absl::Status Check(Request* request) const;
  // Sets what orders it and when it is given up.
  void Arrange(Request* request, int64_t now) const;
  bool AnswerFromCache(Request* request);
  void KeepAnswer(const Request& request);
  void RunAtOnce(int instance, Request* request, int64_t now);
  void Enqueue(Request* request, int64_t now);
  void Refuse(Request* request, Decision why, absl::Status status);

  // With the executor's mutex held.
  absl::Status Admit(Request* request, int64_t now, Decision* why, Request** dropped);
  absl::Status MakeRoom(const Request& request, int64_t now, Decision* why, Request** dropped);
  absl::Status CheckDeadline(const Request& request, int64_t now);
  absl::Status EnterSequence(Request* request, int64_t now);
  // The sequence's next request may run, if there is one.
  void LeaveSequence(const Request& request, bool ran, int64_t now, Request** dropped);

  // QueuedModel.
  int IdleInstances() const override { return pool_.idle(); }
  int TryTakeInstance() override { return pool_.TryTake(); }
  void ReleaseInstance(int instance) override { pool_.Release(instance); }
  std::vector<Request*>* BatchOf(int instance) override { return &lanes_[instance]->batch; }
  void RunBatch(int instance) override;
  void OnDropped(Request* request, Request** dropped) override;
  void FinishDropped(Request* request) override;

  absl::Status FullStatus() const;
  uint32_t RankOf(const Request& request) const;

  const LaneContext context_;
  LaneContext background_context_;  // the same, but that nothing is counted
  const spec::ModelConfig& config_;
  engine::LoadedModel* const model_;
  DataPlane* const plane_;
  Executor* const executor_;
  CpuBudget* const cpu_budget_;
  const std::shared_ptr<VersionMetrics> metrics_;
  const uint64_t load_number_;  // that no other load has
  const bool may_run_at_once_, caches_;
  const int priority_, queue_limit_, min_instances_, max_instances_;
  const size_t queue_bytes_;
  const int64_t timeout_ns_, slo_ns_;

  ServiceTime service_;
  Counter starved_ns_;  // what executions waited because no instance was idle
  InstancePool pool_;
  std::array<std::unique_ptr<Lane>, InstancePool::kMax> lanes_;  // each for who holds its number of pool_
  std::optional<Sequences> sequences_;                           // guarded by the executor's mutex

  std::mutex make_mutex_;                    // held while an instance is made; not for data-plane threads
  std::unique_ptr<Lane> background_;         // of RunInBackground
  int64_t warm_up_left_ns_ = 2'000'000'000;  // of WarmUpBatches
  // Of AdjustInstances.
  uint64_t seen_executions_ = 0, seen_starved_ns_ = 0;
};

}  // namespace tandem::serving
