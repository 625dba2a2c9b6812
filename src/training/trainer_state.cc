// What a checkpoint holds of a Trainer, when one is due, and the way back.
#include <ATen/ops/isfinite.h>

#include "base/status.h"
#include "telemetry/log.h"
#include "training/trainer.h"

namespace tandem::training {
namespace {

constexpr double kDefaultSeconds = 30;

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> Trainer::NamedTensors() const {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  const std::vector<std::string>& names = model_.trained();
  for (size_t i = 0; i < names.size(); ++i) tensors.emplace_back(StrCat("weight/", names[i]), model_.weights()[i]);
  for (const std::string& name : model_.statistics()) {
    tensors.emplace_back(StrCat("statistic/", name), model_.values().at(name));
  }
  for (const auto& [kind, state] : optimizer_->State()) {
    for (size_t i = 0; i < names.size(); ++i) tensors.emplace_back(StrCat(kind, "/", names[i]), state[i]);
  }
  return tensors;
}

Checkpoint Trainer::Snapshot() const {
  return {.fingerprint = fingerprint_,
          .precision = precision_.name,
          .step = step_,
          .steps = steps_,
          .evaluated_step = evaluated_step_,
          .smoothed_loss = smoothed_loss_,
          .loss = loss_,
          .accuracy = accuracy_,
          .tensors = NamedTensors()};
}

absl::Status Trainer::Restore(const Checkpoint& checkpoint) {
  if (checkpoint.fingerprint != fingerprint_) {
    return FailedPrecondition("the checkpoint of step ", checkpoint.step, " in '", inputs_.folder.string(),
                              "' is of another spec, model file or data set: remove it, or give another folder");
  }
  auto own = NamedTensors();
  if (own.size() != checkpoint.tensors.size()) return Internal("the checkpoint has another number of tensors");
  for (size_t i = 0; i < own.size(); ++i) {
    const auto& [name, tensor] = checkpoint.tensors[i];
    if (name != own[i].first || tensor.sizes() != own[i].second.sizes()) {
      return Internal("the checkpoint's tensor '", name, "' does not fit '", own[i].first, "'");
    }
    own[i].second.copy_(tensor);
  }
  precision_ = ResolvePrecision(checkpoint.precision);
  step_ = checkpointed_step_ = checkpoint.step;
  steps_ = checkpoint.steps;
  evaluated_step_ = checkpoint.evaluated_step;
  smoothed_loss_ = checkpoint.smoothed_loss;
  loss_ = checkpoint.loss;
  accuracy_ = checkpoint.accuracy;
  return absl::OkStatus();
}

absl::Status Trainer::CheckFinite() const {
  for (const auto& [name, tensor] : NamedTensors()) {
    if (at::isfinite(tensor).all().item<bool>()) continue;
    std::string kept = checkpointed_step_ >= 0 ? StrCat("the checkpoint of step ", checkpointed_step_, " is kept")
                                               : std::string("no checkpoint was written before");
    return OutOfRange("'", name, "' holds NaN or infinity after step ", step_,
                      ": training diverged, lower optimizer.lr; ", kept);
  }
  return absl::OkStatus();
}

void Trainer::WriteCheckpoint() {
  checkpoint_requested_ = false;
  checkpoint_nanos_ = inputs_.clock->MonotonicNanos();
  if (!folder_ || steps_ == 0 || checkpointed_step_ == step_) return;
  Report("checkpointing");
  absl::StatusOr<std::filesystem::path> path = folder_->Write(Snapshot());
  if (!path.ok()) {
    warning_ = StrCat("checkpoint of step ", step_, " failed: ", MessageOf(path.status()));
    Log(LogLevel::kWarning, "checkpoint failed, the one before is kept and the job goes on",
        {{"step", step_}, {"why", std::string(MessageOf(path.status()))}});
    return;
  }
  warning_.clear();
  checkpointed_step_ = step_;
  Log(LogLevel::kInfo, "checkpoint written", {{"step", step_}, {"file", path->string()}});
  if (hooks_.checkpointed) hooks_.checkpointed(step_, path->string());
}

bool Trainer::CheckpointDue() const {
  if (!folder_ || checkpointed_step_ == step_) return false;
  const spec::CheckpointSpec& spec = inputs_.spec.checkpoint;
  if (checkpoint_requested_) return true;
  if (spec.every_steps > 0 && step_ % spec.every_steps == 0) return true;
  double every = spec.every_seconds > 0 ? spec.every_seconds : spec.every_steps > 0 ? 0 : kDefaultSeconds;
  return every > 0 && static_cast<double>(inputs_.clock->MonotonicNanos() - checkpoint_nanos_) >= every * 1e9;
}

}  // namespace tandem::training
