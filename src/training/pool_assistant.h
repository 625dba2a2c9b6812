#pragma once
// Workers that have nothing to do compute weight gradients of a micro-batch that another one is still at: at a step's
// edge they would only wait for it.
#include <functional>
#include <list>
#include <optional>

#include "absl/status/status.h"
#include "interpreter/interpreter.h"
#include "training/worker_pool.h"

namespace tandem::training {

// For one micro-batch, and its thread alone.
class PoolAssistant : public interpreter::Assistant {
 public:
  explicit PoolAssistant(WorkerPool* pool) : pool_(pool) {}

  // Taken only while a worker waits; what a worker does not begin before Finish is computed there.
  bool Offer(std::function<void()> piece) override;
  // Returns when all that was taken is done: the error of a piece, if one failed. Without it, the destructor waits for
  // what was begun.
  absl::Status Finish();

 private:
  struct Piece {
    Piece(WorkerPool* pool, std::function<void()> body);
    void Run();
    std::function<void()> body;
    absl::Status status;
    std::optional<WorkerPool::Filler> filler;  // last: it uses the others
  };
  WorkerPool* const pool_;
  std::list<Piece> pieces_;
};

}  // namespace tandem::training
