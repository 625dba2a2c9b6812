#pragma once
// The normal-class threads behind the data plane. Work is handed over without a lock, so that a data-plane thread never
// waits for one of these.
#include <semaphore.h>

#include <atomic>
#include <boost/lockfree/queue.hpp>
#include <string>
#include <thread>
#include <vector>

namespace tandem::api::http {

// Something that is run once per Submit on some thread of the pool.
class ControlWork {
 public:
  virtual ~ControlWork() = default;
  virtual void RunOnPool() = 0;
};

// A bounded queue and its threads. Thread-safe.
class ControlPool {
 public:
  // `name` is what the threads are called in ps and top.
  ControlPool(std::string name, int threads);
  ~ControlPool();
  ControlPool(const ControlPool&) = delete;
  ControlPool& operator=(const ControlPool&) = delete;

  void Start();
  // False when the queue is full; `work` lives until it has run.
  bool Submit(ControlWork* work);
  // Waits until all that was submitted has run. No Submit may follow.
  void Stop();

 private:
  static constexpr size_t kCapacity = 512;
  void Run();

  const std::string name_;
  const int thread_count_;
  boost::lockfree::queue<ControlWork*, boost::lockfree::capacity<kCapacity>> queue_;
  sem_t ready_;
  std::atomic<bool> stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tandem::api::http
