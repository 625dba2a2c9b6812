#pragma once
// Who runs next, of all that waits in all models, and which thread wakes up for it.
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/work_source.h"
#include "serving/pi_mutex.h"
#include "serving/request_queue.h"

namespace tandem::serving {

class Executor;

// A version's side of the executor. A model with waiting requests is kept alive by the handles that these hold.
class QueuedModel {
 public:
  explicit QueuedModel(BatchRules rules) : queue_(std::move(rules)) {}
  virtual ~QueuedModel() = default;
  int waiting() const { return waiting_.load(); }

 protected:
  friend class Executor;
  virtual int IdleInstances() const = 0;
  // Takes an idle instance; -1.
  virtual int TryTakeInstance() = 0;
  virtual void ReleaseInstance(int instance) = 0;
  // What the instance is to run; its holder's.
  virtual std::vector<Request*>* BatchOf(int instance) = 0;
  // Runs the batch, calls RunEnded, and finishes the requests. The model may be gone after that.
  virtual void RunBatch(int instance) = 0;
  // A request leaves the queue without being run. REQUIRES: the executor's mutex is held. May chain more to *dropped.
  virtual void OnDropped(Request* request, Request** dropped) = 0;
  // Finishes a dropped request. The model may be gone after that.
  virtual void FinishDropped(Request* request) = 0;

  RequestQueue queue_;                   // guarded by the executor's mutex
  std::atomic<int> waiting_{0};          // = queue_.size(), written under the mutex
  std::atomic<int>* pending_ = nullptr;  // the same, for metrics; may be null

 private:
  int place_ = -1;  // in active_; guarded by the executor's mutex
};

// One for all models. Thread-safe. The mutex is taken by the threads that submit and run requests, for a few pointers;
// no engine is called under it. A request that finds an idle instance of its model need not take it while nothing
// waits.
class Executor : public WorkSource {
 public:
  explicit Executor(Clock* clock) : clock_(clock) {}

  void Join(Worker* worker) override;
  void Leave(Worker* worker) override;
  bool RunOne() override;
  int64_t BeginSleep(Worker* worker) override;
  void EndSleep(Worker* worker) override;

  // A model of that priority (1..10) is loaded, or is not any more. Not for data-plane threads.
  void AddLoaded(int priority);
  void RemoveLoaded(int priority);
  // No model of a more urgent priority is loaded, so that nothing more urgent can turn up while the doors read.
  bool IsMostUrgent(int priority) const {
    return (loaded_.load(std::memory_order_relaxed) & ((1u << priority) - 1)) == 0;
  }

  // Whether what waits, of any model, could run now and is more urgent than the request, of which all but the links of
  // `waiting` is set. Takes the mutex only while something waits.
  bool AnyDueBefore(const Request& request, int64_t now);

  // Before a run, on the thread that runs it.
  static void Announce(int64_t expected_ns);
  // Around a run that did not come from RunOne. RunEnded comes after the instance was given back.
  void RunBegins();
  void RunEnded(const QueuedModel& model);

  // The lock for what follows.
  PiMutex& mutex() { return mutex_; }
  // REQUIRES, for all below: mutex() is held. `queue` of the model is changed by these alone.
  void Add(QueuedModel* model, Request* request, int64_t now);
  void Release(QueuedModel* model, Request* request, int64_t now);  // a held request
  // Takes a request out; it is chained to *dropped, for FinishDropped after the lock is given up.
  void Drop(QueuedModel* model, Request* request, int why, Request** dropped);
  // Takes what expired or was cancelled.
  void DropDead(QueuedModel* model, int64_t now, Request** dropped);
  int workers() const { return static_cast<int>(workers_.size()); }

  // Finishes what was chained. REQUIRES: mutex() is not held.
  static void FinishDropped(Request* dropped);

 private:
  struct Member {
    Worker* worker;
    bool sleeping = false;
    int64_t until = 0;  // while it sleeps
  };
  // All with mutex_ held.
  QueuedModel* TakeDue(int64_t now, int* instance, Request** dropped);
  void DropAllDead(int64_t now, Request** dropped);
  void OnDropped(QueuedModel* model, Request** dropped, Request* older);
  int CountDue(int64_t now, int most) const;
  int64_t NextTime() const;  // when something falls due or expires
  // Wakes sleepers for the work that awake workers will not take at once.
  void Cover(int64_t now);
  void Wake(Member* member);
  void Recount(QueuedModel* model);

  Clock* const clock_;
  std::atomic<uint32_t> loaded_{0};  // a bit for each priority of which a model is loaded
  std::mutex loaded_mutex_;
  int loaded_count_[32] = {};  // guarded by loaded_mutex_

  // Sequentially consistent, as those of InstancePool.
  std::atomic<int> waiting_{0};  // requests of all models
  std::atomic<int> busy_{0};     // threads within an engine

  PiMutex mutex_;
  std::vector<Member> workers_;       // guarded by mutex_
  int sleepers_ = 0;                  // guarded by mutex_
  std::vector<QueuedModel*> active_;  // those with waiting requests; guarded by mutex_
};

}  // namespace tandem::serving
