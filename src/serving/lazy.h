#pragma once
// Requests to lazy versions that are not loaded: kept, without a thread that waits, until the loader is done.
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/waker.h"
#include "base/work_source.h"
#include "serving/pi_mutex.h"
#include "serving/serving.h"

namespace tandem::serving {

// What requests and the loader share of one lazy version. Lock-free.
struct LazyState {
  std::atomic<bool> wanted{false};  // by a request; the loader takes it back
  std::atomic<int> parked{0};
  std::atomic<int64_t> parked_bytes{0};  // of their inputs
  std::atomic<int64_t> last_used_nanos{0};

  void Touch(int64_t now) {
    // Not every request writes the line that all of them share.
    if (now - last_used_nanos.load(std::memory_order_relaxed) > 1'000'000) last_used_nanos.store(now);
  }
};

// What a lazy version takes and gives, known from an earlier load or from what was prepared.
struct LazySignature {
  std::vector<TensorSignature> inputs, outputs;
};

// How a lazy version stands now.
struct LazyNow {
  ModelHandle handle;     // not null: it is loaded
  bool loading = false;   // is being loaded, or will be
  bool hopeless = false;  // no request will load it: it failed, or is not served any more
  uint64_t loads = 0;     // that ended, in whatever way
  std::string failure;    // of the last load; "" = it went well
};

// Keeps requests until their version is loaded, and has the threads that poll for work run them then. Thread-safe. Its
// mutex is the data plane's: the loader only counts (TableChanged) and wakes.
class ParkingLot : public WorkSource {
 public:
  using LookUp = std::function<LazyNow(std::string_view model, int32_t version)>;
  // All outlive it. `look_up` reads the published table. `inner` is the work that is not parked. The limits are of
  // models that name none.
  ParkingLot(WorkSource* inner, LookUp look_up, Clock* clock, double max_wait_s, int queue_limit,
             std::shared_ptr<Waker> loader)
      : inner_(inner),
        look_up_(std::move(look_up)),
        clock_(clock),
        max_wait_s_(max_wait_s),
        queue_limit_(queue_limit),
        loader_(std::move(loader)) {}

  void Park(Request* request, const std::string& model, int32_t version, const spec::ModelConfig& config,
            const std::shared_ptr<LazyState>& state);
  LazyNow Find(std::string_view model, int32_t version) const { return look_up_(model, version); }
  // By the loader, once another table was published.
  void TableChanged();

  void Join(Worker* worker) override;
  void Leave(Worker* worker) override;
  bool RunOne() override;
  int64_t BeginSleep(Worker* worker) override;
  void EndSleep(Worker* worker) override { inner_->EndSleep(worker); }

 private:
  struct Parked {
    Request* request = nullptr;
    std::string model;
    int32_t version = 0;
    uint64_t loads = 0;  // ended when it was parked
    int64_t began_nanos = 0, deadline_nanos = 0;
    int64_t bytes = 0;  // of its inputs
    std::shared_ptr<LazyState> state;
    ModelHandle run_on;  // set once it can run
  };
  // Whether there is room for one more; counts it then.
  bool Reserve(const spec::ModelConfig& config, int64_t bytes, LazyState* state) const;
  static void GiveBack(int64_t bytes, LazyState* state);
  // The next one that can run or has failed (its status is set then).
  bool TakeOne(Parked* taken);
  // Whether it leaves; REQUIRES: mutex_ held.
  bool Decide(Parked* parked, int64_t now);

  WorkSource* const inner_;
  const LookUp look_up_;
  Clock* const clock_;
  const double max_wait_s_;
  const int queue_limit_;
  const std::shared_ptr<Waker> loader_;

  std::atomic<int> count_{0};
  std::atomic<bool> look_again_{false};
  std::atomic<int64_t> next_look_{kNever};  // a deadline, or to see who has gone
  mutable PiMutex mutex_;
  std::vector<Parked> parked_;  // guarded by mutex_; oldest first

  // Taken by a thread that answers requests only when it begins and ends; by the loader, to wake them all.
  std::mutex workers_mutex_;
  std::vector<Worker*> workers_;
};

// What requests get of a lazy version that is not loaded: Submit parks them. Thread-safe.
class LazyVersion : public LoadedVersion {
 public:
  // `lot` outlives it.
  LazyVersion(std::string model, const DesiredVersion& spec, std::shared_ptr<const LazySignature> signature,
              std::shared_ptr<LazyState> state, ParkingLot* lot)
      : model_(std::move(model)),
        version_(spec.version),
        engine_(spec.engine),
        config_(spec.config),
        signature_(std::move(signature)),
        state_(std::move(state)),
        lot_(lot) {}

  const std::string& model() const override { return model_; }
  int32_t version() const override { return version_; }
  const std::vector<TensorSignature>& inputs() const override { return signature_->inputs; }
  const std::vector<TensorSignature>& outputs() const override { return signature_->outputs; }
  const std::string& engine() const override { return engine_; }
  const spec::ModelConfig& config() const override { return config_; }

  void Submit(Request* request) const override { lot_->Park(request, model_, version_, config_, state_); }
  absl::Status RunInBackground(const std::vector<Request::Input>& inputs, std::vector<Tensor>* outputs) const override;
  // Counted by the version that answered, if it is still loaded.
  void Record(bool ok, int64_t rows, int64_t total_ns, int64_t queue_ns, int64_t input_ns, int64_t infer_ns,
              int64_t output_ns) const override;
  Statistics ReadStatistics() const override { return {}; }
  HistogramSnapshot ReadLatency() const override { return {}; }
  LoadNow ReadLoad() const override;

 private:
  const std::string model_;
  const int32_t version_;
  const std::string engine_;
  const spec::ModelConfig config_;
  const std::shared_ptr<const LazySignature> signature_;
  const std::shared_ptr<LazyState> state_;
  ParkingLot* const lot_;
};

}  // namespace tandem::serving
