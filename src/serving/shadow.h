#pragma once
// Copies of requests, run by a version whose answers nobody gets: only how far they are from the real ones is kept.
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/waker.h"
#include "serving/serving.h"
#include "telemetry/metrics.h"

namespace tandem::serving {

// The sums of one shadow version, kept by the metrics registry (tandem_shadow_requests_total and so on), so that they
// never fall; ReadShadow gives what came since these figures were made. Thread-safe; Add* by one thread.
class ShadowFigures {
 public:
  ShadowFigures(Metrics* metrics, const std::string& model, int32_t version);
  void AddDropped() { dropped_->Add(1); }
  void AddFailed() { failed_->Add(1); }
  void AddCompared(const std::vector<Tensor>& expected, const std::vector<Tensor>& actual);
  // Fills in the counts.
  void Read(ShadowReport* report) const;

 private:
  struct Counts {
    uint64_t equal = 0, different = 0, failed = 0, dropped = 0, rows = 0, same_class = 0;
  };
  Counts Now() const;

  Counter *equal_, *different_, *failed_, *dropped_, *rows_, *same_class_;
  Gauge *max_absolute_, *max_relative_;
  Counts before_;
};

class ShadowQueue;

// One copied request: made before the request is submitted, given its answer, and run. Returns its room when destroyed.
struct ShadowCopy {
  ~ShadowCopy();
  std::shared_ptr<ShadowQueue> queue;
  std::shared_ptr<ShadowFigures> figures;
  ModelHandle version;
  std::vector<Tensor> inputs, answer;
  size_t bytes = 0;
  ShadowCopy* next = nullptr;
};

// Where request threads leave copies. Bounded by number and bytes; what does not fit is counted as dropped. Lock-free
// and never waiting for its callers; one thread takes. Must be owned by a shared_ptr.
class ShadowQueue : public std::enable_shared_from_this<ShadowQueue> {
 public:
  static constexpr int kMaxCopies = 64;
  static constexpr size_t kMaxBytes = size_t{64} << 20;

  ~ShadowQueue();
  // A copy of the inputs; null (and counted) when there is no room.
  std::unique_ptr<ShadowCopy> Copy(const Request& request, const ModelHandle& version,
                                   const std::shared_ptr<ShadowFigures>& figures);
  // Copies the request's answer, and leaves it all for the thread.
  void Push(std::unique_ptr<ShadowCopy> copy, const Request& request);

 private:
  friend struct ShadowCopy;
  friend class ShadowRunner;
  bool Reserve(size_t bytes);

  std::atomic<int> copies_{0};
  std::atomic<size_t> bytes_{0};
  std::atomic<ShadowCopy*> newest_{nullptr};
  Waker waker_;
};

// Runs what is in the queue, in the background class and on instances of their own, so that no request waits for it.
class ShadowRunner {
 public:
  ShadowRunner() : thread_([this] { Loop(); }) {}
  ~ShadowRunner() { Stop(); }
  // Drops what is queued, and runs nothing any more.
  void Stop();
  const std::shared_ptr<ShadowQueue>& queue() const { return queue_; }

 private:
  void Loop();

  const std::shared_ptr<ShadowQueue> queue_ = std::make_shared<ShadowQueue>();
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace tandem::serving
