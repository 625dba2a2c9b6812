#include "training/checkpoint_writer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/isfinite.h>
#include <pthread.h>

#include "base/background_class.h"
#include "base/status.h"

namespace tandem::training {
namespace {

void EnterLowestClass() {
  pthread_setname_np(pthread_self(), "checkpoint");
  EnterBackgroundClass();
  at::set_num_threads(1);
}

}  // namespace

absl::Status CheckFinite(const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (!at::isfinite(tensor).all().item<bool>()) return OutOfRange("'", name, "' holds NaN or infinity");
  }
  return absl::OkStatus();
}

CheckpointWriter::CheckpointWriter(const CheckpointFolder* folder, std::function<void()> on_done)
    : folder_(folder), on_done_(std::move(on_done)) {}

void CheckpointWriter::Begin(Checkpoint copy) {
  busy_ = true;
  done_ = false;
  result_.step = copy.step;
  thread_ = std::jthread([this, copy = std::move(copy)](StopToken stop) { Write(copy, std::move(stop)); });
}

void CheckpointWriter::Write(const Checkpoint& copy, StopToken stop) {
  EnterLowestClass();
  result_.file = CatchToStatus("writing a checkpoint", [&]() -> absl::StatusOr<std::filesystem::path> {
    TANDEM_RETURN_IF_ERROR(CheckFinite(copy.tensors));
    return folder_->Write(copy, stop);
  });
  done_ = true;
  on_done_();
}

std::optional<CheckpointWriter::Result> CheckpointWriter::Take() {
  if (!busy_ || !done_) return std::nullopt;
  busy_ = false;
  return std::move(result_);
}

std::optional<CheckpointWriter::Result> CheckpointWriter::Wait() {
  if (!busy_) return std::nullopt;
  thread_.join();
  return Take();
}

}  // namespace tandem::training
