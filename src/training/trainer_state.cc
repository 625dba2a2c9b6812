// What a checkpoint holds of a Trainer, when one is due, and the way back.
#include <ATen/ops/clone.h>

#include <algorithm>

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
  step_ = resumed_step_ = checkpointed_step_ = checkpoint.step;
  steps_ = checkpoint.steps;
  evaluated_step_ = checkpoint.evaluated_step;
  smoothed_loss_ = checkpoint.smoothed_loss;
  loss_ = checkpoint.loss;
  accuracy_ = checkpoint.accuracy;
  return absl::OkStatus();
}

absl::Status Trainer::Diverged(const absl::Status& why, int64_t step) const {
  return OutOfRange(MessageOf(why), " at step ", step, ": training diverged, lower optimizer.lr; ",
                    checkpointed_step_ >= 0 ? StrCat("the checkpoint of step ", checkpointed_step_, " is kept")
                                            : std::string("no checkpoint was written before"));
}

void Trainer::BeginCheckpoint() {
  checkpoint_requested_ = false;
  checkpoint_nanos_ = Now();
  if (steps_ == 0 || checkpointed_step_ == step_) return;
  Checkpoint copy = Snapshot();
  for (auto& [name, tensor] : copy.tensors) tensor = tensor.clone();
  writer_->Begin(std::move(copy));
}

void Trainer::WriteCheckpointNow() {
  checkpoint_requested_ = false;
  checkpoint_nanos_ = Now();
  if (!folder_ || steps_ == 0) return;
  TakeCheckpoint(writer_->Take());
  if (checkpointed_step_ == step_) return;
  // A copy that is being written at the lowest class would take longer than this. Two may write side by side: each file
  // appears whole, and those of one step are equal.
  writer_->Drop();
  Report("checkpointing");
  const absl::Status finite = CheckFinite(NamedTensors());
  TakeCheckpoint(CheckpointWriter::Result{
      .step = step_, .file = finite.ok() ? folder_->Write(Snapshot()) : absl::StatusOr<std::filesystem::path>(finite)});
}

void Trainer::TakeCheckpoint(std::optional<CheckpointWriter::Result> result) {
  if (!result) return;
  const auto& [step, file] = *result;
  if (file.ok()) {
    warning_.clear();
    checkpointed_step_ = std::max(checkpointed_step_, step);
    Log(LogLevel::kInfo, "checkpoint written", {{"step", step}, {"file", file->string()}});
    if (hooks_.checkpointed) hooks_.checkpointed(step, file->string());
  } else if (absl::IsOutOfRange(file.status())) {
    diverged_ = Diverged(file.status(), step);
  } else if (!absl::IsCancelled(file.status())) {
    warning_ = StrCat("checkpoint of step ", step, " failed: ", MessageOf(file.status()));
    Log(LogLevel::kWarning, "checkpoint failed, the one before is kept and the job goes on",
        {{"step", step}, {"why", std::string(MessageOf(file.status()))}});
    Report("training");
  }
}

void Trainer::CheckpointIfDue() {
  if (!writer_) return;
  TakeCheckpoint(writer_->Take());
  if (!CheckpointDue()) return;
  if (writer_->busy()) {
    // Of those that come by time or by request the next one waits for its turn; those by steps are all written.
    const int64_t every = inputs_.spec.checkpoint.every_steps;
    if (every <= 0 || step_ % every != 0) return;
    TakeCheckpoint(writer_->Wait());
  }
  BeginCheckpoint();
}

bool Trainer::CheckpointDue() const {
  if (!folder_ || checkpointed_step_ == step_) return false;
  const spec::CheckpointSpec& spec = inputs_.spec.checkpoint;
  if (checkpoint_requested_) return true;
  if (spec.every_steps > 0 && step_ > 0 && step_ % spec.every_steps == 0) return true;
  double every = spec.every_seconds > 0 ? spec.every_seconds : spec.every_steps > 0 ? 0 : kDefaultSeconds;
  return every > 0 && static_cast<double>(Now() - checkpoint_nanos_) >= every * 1e9;
}

}  // namespace tandem::training
