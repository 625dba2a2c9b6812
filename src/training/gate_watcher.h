#pragma once
#include <atomic>
#include <filesystem>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "base/pressure_word.h"
#include "training/worker_pool.h"

namespace tandem::training {

// Sleeps on the daemon's pressure word and hands each value to the pool: how many threads may begin a micro-batch or a
// filler. What runs goes on to its end. Thread-safe.
class GateWatcher {
 public:
  static constexpr int kLookMs = 100;        // how soon it hears that it is to end
  static constexpr int64_t kSaidMs = 1'000;  // closed for longer than this is worth a word

  // The pool's gate is set when this returns. An unreadable file is an error. `pool` outlives this.
  static absl::StatusOr<std::unique_ptr<GateWatcher>> Open(const std::filesystem::path& file, WorkerPool* pool);
  ~GateWatcher();

  // Closed for more than kSaidMs. The pool is woken when this changes.
  bool closed_for_long() const { return closed_for_long_; }

 private:
  GateWatcher(std::unique_ptr<PressureWord> word, WorkerPool* pool);
  void Loop(uint32_t value);

  const std::unique_ptr<PressureWord> word_;
  WorkerPool* const pool_;
  std::atomic<bool> ending_{false}, closed_for_long_{false};
  std::thread thread_;  // last: it uses the rest
};

}  // namespace tandem::training
