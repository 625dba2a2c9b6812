#include "training/pool_assistant.h"

#include <utility>

#include "base/status.h"

namespace tandem::training {

PoolAssistant::Piece::Piece(WorkerPool* pool, std::function<void()> work) : body(std::move(work)) {
  filler.emplace(pool, WorkerPool::Filler::Urgency::kNow, 1, [this](int64_t) { Run(); });
}

void PoolAssistant::Piece::Run() {
  status = CatchToStatus("training thread", [this] {
    body();
    return absl::OkStatus();
  });
  body = nullptr;  // it holds activations
}

bool PoolAssistant::Offer(std::function<void()> piece) {
  if (!pool_->HasSpareWorker()) return false;
  pieces_.emplace_back(pool_, std::move(piece));
  return true;
}

absl::Status PoolAssistant::Finish() {
  for (Piece& piece : pieces_) {
    if (piece.filler->Withdraw()) piece.Run();
  }
  absl::Status status;
  for (Piece& piece : pieces_) {
    piece.filler.reset();  // waits
    status.Update(piece.status);
  }
  pieces_.clear();
  return status;
}

}  // namespace tandem::training
