#include "training/gate_watcher.h"

#include <pthread.h>

#include <algorithm>

#include "base/clock.h"
#include "base/status.h"

namespace tandem::training {
namespace {

int Threads(uint32_t value) { return static_cast<int>(std::min<uint32_t>(value, WorkerPool::kMaxThreads)); }

}  // namespace

absl::StatusOr<std::unique_ptr<GateWatcher>> GateWatcher::Open(const std::filesystem::path& file, WorkerPool* pool) {
  auto word = PressureWord::Open(file);
  if (!word.ok()) return Annotate(word.status(), "the daemon's pressure word cannot be read");
  return std::unique_ptr<GateWatcher>(new GateWatcher(*std::move(word), pool));
}

GateWatcher::GateWatcher(std::unique_ptr<PressureWord> word, WorkerPool* pool) : word_(std::move(word)), pool_(pool) {
  const uint32_t value = word_->Read();
  pool_->SetGate(Threads(value));
  thread_ = std::thread([this, value] { Loop(value); });
}

GateWatcher::~GateWatcher() {
  ending_ = true;
  thread_.join();
}

void GateWatcher::Loop(uint32_t value) {
  pthread_setname_np(pthread_self(), "gate");
  int64_t since = Clock::Real()->MonotonicNanos();
  while (!ending_) {
    const uint32_t next = word_->WaitForChange(value, kLookMs);
    const int64_t now = Clock::Real()->MonotonicNanos();
    if (next != value) {
      pool_->SetGate(Threads(next));
      since = now;
      value = next;
    }
    const bool closed = value == 0 && now - since > kSaidMs * 1'000'000;
    if (closed_for_long_.exchange(closed) != closed) pool_->Wake();
  }
}

}  // namespace tandem::training
