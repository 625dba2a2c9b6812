#pragma once
// Inference without an engine: models that echo at once, when a test says so, or never.
#include <string.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "api/service.h"
#include "base/clock.h"
#include "base/status.h"

namespace tandem::api::http::testing {

// Holds callers of the model "slow" until it is opened. Thread-safe.
class Latch {
 public:
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void WaitForWaiters(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

// Requests that wait, until a test finishes them or lets the door's threads do so. Thread-safe.
class WaitingRequests : public WorkSource {
 public:
  using Finish = std::function<void(InferRequest*)>;

  // `finish` runs the request and tells its owner.
  void Add(InferRequest* request, Finish finish) {
    std::lock_guard lock(mutex_);
    waiting_.push_back({request, std::move(finish)});
    changed_.notify_all();
  }
  void WaitFor(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_.size() >= count; });
  }
  bool IsOldestCancelled() {
    std::lock_guard lock(mutex_);
    return !waiting_.empty() && waiting_.front().request->cancelled;
  }
  // On the calling thread: the oldest, or the newest.
  bool FinishOldest() { return FinishOne(false); }
  bool FinishNewest() { return FinishOne(true); }
  // From then on the door's threads finish them, once `due_ns` (monotonic) has come.
  void LetWorkersRun(int64_t due_ns) {
    std::lock_guard lock(mutex_);
    due_ns_ = due_ns;
    for (Worker* worker : sleeping_) worker->Wake();
  }

  // Before a run on the calling thread that takes long.
  static void Announce() {
    if (this_worker != nullptr) this_worker->Occupied(0);
  }

  void Join(Worker* worker) override {
    this_worker = worker;
    ++workers;
  }
  void Leave(Worker*) override { --workers; }
  bool RunOne() override { return Clock::Real()->MonotonicNanos() >= due_ns_ && FinishOldest(); }
  int64_t BeginSleep(Worker* worker) override {
    std::lock_guard lock(mutex_);
    sleeping_.push_back(worker);
    if (waiting_.empty() || due_ns_ == kNever) return kNever;
    return Clock::Real()->MonotonicNanos() >= due_ns_ ? 0 : due_ns_.load();
  }
  void EndSleep(Worker* worker) override {
    std::lock_guard lock(mutex_);
    std::erase(sleeping_, worker);
  }

  std::atomic<int> workers = 0;

 private:
  struct Waiting {
    InferRequest* request;
    Finish finish;
  };
  bool FinishOne(bool newest) {
    std::unique_lock lock(mutex_);
    if (waiting_.empty()) return false;
    Waiting one = std::move(newest ? waiting_.back() : waiting_.front());
    newest ? waiting_.pop_back() : waiting_.pop_front();
    lock.unlock();
    one.finish(one.request);
    return true;
  }

  static inline thread_local Worker* this_worker = nullptr;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;    // guarded by mutex_
  std::vector<Worker*> sleeping_;  // guarded by mutex_
  std::atomic<int64_t> due_ns_ = kNever;
};

struct Recorded {
  std::atomic<int> done_ok = 0, done_failed = 0, cancelled = 0;
  std::atomic<bool> unaligned = false;
  std::atomic<int64_t> last_deadline_ns = 0;
  Latch slow;
  WaitingRequests waiting;  // of the model "later"

  std::string last_route_key() {
    std::lock_guard lock(mutex);
    return route_key;
  }
  std::mutex mutex;
  std::string route_key;  // guarded by mutex
};

// Gives each input back as an output with the same name, type and shape.
class EchoSession : public InferSession {
 public:
  EchoSession(std::string model, const std::vector<TensorSignature>* signature, Recorded* recorded)
      : model_(std::move(model)), signature_(signature), recorded_(recorded) {
    if (model_ == "batched") {
      config_.max_batch_size = 8;
      config_.preferred_batch_sizes = {4, 8};
      config_.max_queue_delay_ms = 0.5;
      config_.labels["x"] = {"cat", "dog"};
    } else if (model_ == "sequence") {
      config_.max_batch_size = 4;
      config_.instances = 2;
      config_.versions = "1,4";
      config_.sequence = {.strategy = "oldest", .controls = {{"START", "start"}}, .states = {{"in", "out"}}};
    }
  }
  const std::string& model() const override { return model_; }
  const std::string& version() const override { return version_; }
  const std::string& platform() const override { return platform_; }
  const std::vector<TensorSignature>& inputs() const override { return *signature_; }
  const std::vector<TensorSignature>& outputs() const override { return *signature_; }
  const spec::ModelConfig& config() const override { return config_; }
  void Start(InferRequest* request) override {
    recorded_->last_deadline_ns = request->deadline_ns;
    if (model_ != "later") return RunNow(request);
    {
      std::lock_guard lock(recorded_->mutex);
      recorded_->route_key = request->route_key;
    }
    recorded_->waiting.Add(request, [this](InferRequest* waited) { RunNow(waited); });
  }
  void Done(bool ok, const InferTiming&, int64_t, int64_t) override {
    ++(ok ? recorded_->done_ok : recorded_->done_failed);
  }

 private:
  void RunNow(InferRequest* request) {
    if (request->cancelled) {
      ++recorded_->cancelled;
      request->status = Cancelled("the client has gone");
    } else {
      request->status = CatchToStatus("the engine", [&] { return Run(request->inputs, &request->outputs); });
    }
    request->owner->Finished(request);
  }
  absl::Status Run(const std::vector<InputTensor>& inputs, std::vector<Tensor>* outputs) {
    if (model_ == "slow") {
      WaitingRequests::Announce();
      recorded_->slow.Wait();
    }
    if (model_ == "broken") return Internal("the engine failed");
    if (model_ == "throws") throw std::runtime_error("thrown in the engine");
    outputs->resize(inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const InputTensor& input = inputs[i];
      if (reinterpret_cast<uintptr_t>(input.data) % 64 != 0) recorded_->unaligned = true;
      Tensor& output = (*outputs)[i];
      output.name = input.name;
      output.dtype = input.dtype;
      output.shape = input.shape;
      output.buffer.Resize(input.byte_size);
      if (input.byte_size > 0) memcpy(output.buffer.data(), input.data, input.byte_size);
    }
    return absl::OkStatus();
  }

  std::string model_, version_ = "1", platform_ = "echo";
  spec::ModelConfig config_;
  const std::vector<TensorSignature>* signature_;
  Recorded* recorded_;
};

class FakeInference : public Inference {
 public:
  absl::StatusOr<std::unique_ptr<InferSession>> Open(std::string_view model, std::string_view version) override {
    if (model == "loading") return Unavailable("model 'loading' is being loaded");
    if (model == "crowded") return WithRetryAfter(Unavailable("the queue of model 'crowded' is full"), 2.5);
    if (!version.empty() && version != "1") return NotFound("model '", model, "' has no version ", version);
    for (std::string_view known :
         {"echo", "slow", "later", "broken", "throws", "batched", "sequence", "\xc3\xa9t\xc3\xa9"}) {
      if (model == known) return std::make_unique<EchoSession>(std::string(model), &one_, &recorded);
    }
    if (model == "pair") return std::make_unique<EchoSession>("pair", &two_, &recorded);
    return NotFound("there is no model '", model, "'; there are: echo");
  }
  bool Live() override { return true; }
  bool Ready() override { return ready; }
  std::vector<std::string> ServedVersions(std::string_view) override { return {"1"}; }
  absl::StatusOr<std::vector<ModelStatistics>> Statistics(std::string_view model, std::string_view) override {
    if (model == "missing") return NotFound("there is no model 'missing'");
    ModelStatistics stats;
    stats.model = "echo";
    stats.version = "1";
    stats.queue = {.count = 7, .ns = 70};
    stats.cache_hit = {.count = 3, .ns = 30};
    stats.batches = {{.rows = 4, .compute_infer = {.count = 2, .ns = 20}}};
    stats.memory_bytes = 1000;
    return std::vector<ModelStatistics>{stats};
  }
  std::vector<RepositoryEntry> Repository(bool ready_only) override {
    std::vector<RepositoryEntry> all = {{"echo", "1", "READY", ""}};
    if (!ready_only) all.push_back({"broken", "2", "UNAVAILABLE", "no \"blob\""});
    return all;
  }

  WorkSource* work() override { return &recorded.waiting; }

  std::atomic<bool> ready = true;
  Recorded recorded;

 private:
  std::vector<TensorSignature> one_ = {{"x", DType::kFloat32, {-1, 4}}};
  std::vector<TensorSignature> two_ = {{"x", DType::kFloat32, {-1}}, {"y", DType::kInt64, {-1}}};
};

}  // namespace tandem::api::http::testing
