#pragma once
#include <functional>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace tandem::training {

// Blocks SIGTERM and SIGINT for the calling thread and all threads made later, and calls `on_stop` on a thread of its
// own when one comes. Make it before any other thread exists.
class StopSignals {
 public:
  static absl::StatusOr<std::unique_ptr<StopSignals>> Create(std::function<void()> on_stop);
  ~StopSignals();

 private:
  StopSignals(UniqueFd signals, UniqueFd end, std::function<void()> on_stop);
  void Loop();

  UniqueFd signals_, end_;
  std::function<void()> on_stop_;
  std::thread thread_;
};

}  // namespace tandem::training
