#include "training/trainer.h"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "base/text.h"
#include "telemetry/log.h"
#include "training/schedule.h"

namespace tandem::training {
namespace {

constexpr double kSmoothing = 0.98;         // of the reported training loss, per step
constexpr double kSpeedSeconds = 3;         // time constant of the reported images/s
constexpr double kMeasuredFraction = 0.04;  // of a time budget, for measuring the first steps
constexpr double kBudgetUse = 0.95;         // of a time budget; the rest is for checkpoints and a machine that slows
constexpr double kEvaluationCost = 0.4;     // of a sample, against training on it
constexpr double kNano = 1e-9;

data::Augmentation AugmentationOf(const spec::TrainSpec& spec) {
  data::Augmentation augmentation;
  for (const spec::AugmentSpec& entry : spec.augment) {
    if (entry.name == "flip") augmentation.flip = true;
    if (entry.name == "crop") augmentation.crop_padding = entry.padding;
  }
  return augmentation;
}

}  // namespace

void Trainer::RequestCheckpoint() {
  checkpoint_requested_ = true;
  pool_.Wake();
}

absl::StatusOr<TrainerOutcome> Trainer::Run(const TrainerHooks& hooks) {
  at::set_num_threads(1);
  hooks_ = hooks;
  start_nanos_ = checkpoint_nanos_ = inputs_.clock->MonotonicNanos();
  absl::Status status = CatchToStatus("training", [&] { return Loop(); });
  if (absl::IsCancelled(status) && pool_.stopped()) return Leave();
  TANDEM_RETURN_IF_ERROR(status);
  return Finish();
}

absl::Status Trainer::Open() {
  Report("loading");
  if (inputs_.folder.empty()) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(MakeFolders(inputs_.folder));
  TANDEM_ASSIGN_OR_RETURN(FileLock lock,
                          FileLock::Acquire(inputs_.folder / "trainer.lock", StrCat("pid=", getpid(), "\n")));
  lock_.emplace(std::move(lock));
  folder_.emplace(inputs_.folder);
  TANDEM_ASSIGN_OR_RETURN(std::optional<Checkpoint> checkpoint, folder_->ReadLatest());
  if (!checkpoint) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(Restore(*checkpoint));
  Log(LogLevel::kInfo, "going on from a checkpoint", {{"step", step_}, {"steps", steps_}});
  return absl::OkStatus();
}

absl::Status Trainer::FixSteps() {
  if (steps_ > 0) return absl::OkStatus();  // from the checkpoint
  const spec::TrainSpec& spec = inputs_.spec;
  if (spec.time_budget_s <= 0) {
    steps_ = spec.steps > 0 ? spec.steps : spec.epochs * plan_.StepsPerEpoch();
    return absl::OkStatus();
  }
  Report("measuring");
  TANDEM_ASSIGN_OR_RETURN(double step_s, MeasureSecondsPerStep());
  double evaluation_s = kEvaluationCost * step_s * static_cast<double>(val_->size()) / plan_.batch();
  double left = spec.time_budget_s - (inputs_.clock->MonotonicNanos() - start_nanos_) * kNano - evaluation_s;
  double cost = step_s + evaluation_s / plan_.StepsPerEpoch();
  steps_ = std::max<int64_t>(1, static_cast<int64_t>(left * kBudgetUse / cost));
  Log(LogLevel::kInfo, "the time budget fixes the number of steps",
      {{"budget_s", spec.time_budget_s}, {"step_ms", step_s * 1e3}, {"steps", steps_}});
  // From here on the number is part of the job, however fast the machine is when it goes on.
  WriteCheckpoint();
  return absl::OkStatus();
}

// Computes the first steps' gradients and drops them: the schedule needs the number of steps before the first update.
absl::StatusOr<double> Trainer::MeasureSecondsPerStep() {
  BatchLoader loader(*train_, plan_, AugmentationOf(inputs_.spec), inputs_.spec.seed, 0);
  const int64_t limit = static_cast<int64_t>(inputs_.spec.time_budget_s * kMeasuredFraction / kNano);
  int64_t steps = 0, begin = 0, now = 0;
  // The first step warms up allocators and kernels and is not counted.
  while (steps < 2 || now - start_nanos_ < limit) {
    TANDEM_ASSIGN_OR_RETURN(Batch batch, loader.Next());
    TANDEM_RETURN_IF_ERROR(ComputeGradients(model_, batch, plan_, steps, Options(), &pool_).status());
    now = inputs_.clock->MonotonicNanos();
    if (steps == 0) begin = now;
    ++steps;
  }
  return static_cast<double>(now - begin) * kNano / static_cast<double>(steps - 1);
}

absl::Status Trainer::Loop() {
  TANDEM_RETURN_IF_ERROR(Open());
  TANDEM_RETURN_IF_ERROR(FixSteps());
  Log(LogLevel::kInfo, "training",
      {{"steps", steps_},
       {"samples", train_->size()},
       {"batch", plan_.batch()},
       {"micro_batch", plan_.micro_batch()},
       {"precision", precision_.name},
       {"threads", pool_.threads()},
       {"trained_tensors", static_cast<int64_t>(model_.trained().size())}});
  BatchLoader loader(*train_, plan_, AugmentationOf(inputs_.spec), inputs_.spec.seed, step_);
  TANDEM_RETURN_IF_ERROR(EvaluateIfDue());
  while (step_ < steps_) {
    TANDEM_RETURN_IF_ERROR(TrainStep(&loader));
    Report("training");
    TANDEM_RETURN_IF_ERROR(EvaluateIfDue());
    TANDEM_RETURN_IF_ERROR(CheckpointIfDue());
  }
  return absl::OkStatus();
}

absl::Status Trainer::TrainStep(BatchLoader* loader) {
  TANDEM_ASSIGN_OR_RETURN(Batch batch, loader->Next());
  const int64_t begin = inputs_.clock->MonotonicNanos(), rest = rest_nanos_;
  TANDEM_ASSIGN_OR_RETURN(Gradients gradients, ComputeGradients(model_, batch, plan_, step_, Options(), &pool_));
  double lr = LearningRate(inputs_.spec.schedule, inputs_.spec.optimizer.lr, step_, steps_);
  if (!std::isfinite(gradients.loss)) {
    return OutOfRange("loss is ", std::isnan(gradients.loss) ? "NaN" : "infinite", " at step ", step_, " (lr ", lr,
                      "): training diverged, lower optimizer.lr; ",
                      checkpointed_step_ >= 0 ? StrCat("the checkpoint of step ", checkpointed_step_, " is kept")
                                              : std::string("no checkpoint was written before"));
  }
  TANDEM_RETURN_IF_ERROR(ApplyGradients(gradients, step_, lr, model_, optimizer_.get(), &pool_));
  smoothed_loss_ = step_ == 0 ? gradients.loss : kSmoothing * smoothed_loss_ + (1 - kSmoothing) * gradients.loss;
  ++step_;
  CountSpeed(batch.labels.size(0), inputs_.clock->MonotonicNanos() - begin - (rest_nanos_ - rest));
  return absl::OkStatus();
}

bool Trainer::EvaluationDue() const {
  if (evaluated_step_ == step_ || step_ == 0 || val_->size() == 0) return false;
  // After every epoch only where that costs little beside the epoch.
  bool cheap = val_->size() * 4 <= train_->size();
  return step_ == steps_ || (cheap && step_ % plan_.StepsPerEpoch() == 0);
}

absl::Status Trainer::EvaluateIfDue() {
  if (!EvaluationDue()) return absl::OkStatus();
  Report("evaluating");
  TANDEM_ASSIGN_OR_RETURN(Evaluation evaluation, Evaluate(
                                                     model_, *val_, [this] { OnWake(); }, &pool_));
  evaluated_step_ = step_;
  loss_ = evaluation.loss;
  accuracy_ = evaluation.accuracy;
  Log(LogLevel::kInfo, "evaluated",
      {{"step", step_}, {"accuracy", accuracy_}, {"loss", loss_}, {"train_loss", smoothed_loss_}});
  Report("training");
  return absl::OkStatus();
}

absl::Status Trainer::CheckpointIfDue() {
  if (!CheckpointDue()) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(CheckFinite());
  WriteCheckpoint();
  return absl::OkStatus();
}

TrainerOutcome Trainer::Leave() {
  if (CheckFinite().ok()) WriteCheckpoint();
  Log(LogLevel::kInfo, "stopped", {{"step", step_}, {"checkpoint", checkpointed_step_}});
  return {.stopped = true, .step = step_, .metrics = {}};
}

absl::StatusOr<TrainerOutcome> Trainer::Finish() {
  TANDEM_RETURN_IF_ERROR(CheckFinite());
  TANDEM_ASSIGN_OR_RETURN(std::string file, model_.ToFile());
  TANDEM_RETURN_IF_ERROR(
      Annotate(WriteFileAtomically(inputs_.output_path, file), "the trained model cannot be written"));
  TrainerOutcome outcome{.stopped = false, .step = step_, .metrics = {}};
  outcome.metrics["train_loss"] = smoothed_loss_;
  outcome.metrics["steps"] = static_cast<double>(step_);
  outcome.metrics["seconds"] = static_cast<double>(inputs_.clock->MonotonicNanos() - start_nanos_) * kNano;
  outcome.metrics["images_per_s"] =
      trained_nanos_ > 0 ? static_cast<double>(trained_samples_) / (static_cast<double>(trained_nanos_) * kNano) : 0;
  outcome.metrics["loss"] = evaluated_step_ >= 0 ? loss_ : smoothed_loss_;
  if (evaluated_step_ >= 0) outcome.metrics["accuracy"] = accuracy_;
  return outcome;
}

// The weights are those of the step's beginning until all its micro-batches are done, so a checkpoint may be written
// here, in a pause too.
void Trainer::OnWake() {
  const int64_t now = inputs_.clock->MonotonicNanos();
  if (pool_.resting() != (rest_began_ != 0)) {
    bool resting = rest_began_ == 0;
    if (!resting) rest_nanos_ += now - rest_began_;
    rest_began_ = resting ? now : 0;
    Log(LogLevel::kInfo, resting ? "paused" : "resumed", {{"step", step_}});
    if (hooks_.paused) hooks_.paused(resting);
    Report(resting ? "paused" : "training");
  }
  if (checkpoint_requested_ && CheckFinite().ok()) WriteCheckpoint();
}

void Trainer::CountSpeed(int64_t samples, int64_t nanos) {
  trained_samples_ += samples;
  trained_nanos_ += nanos;
  double seconds = std::max(1e-6, static_cast<double>(nanos) * kNano), rate = static_cast<double>(samples) / seconds;
  double weight = images_per_s_ == 0 ? 1 : 1 - std::exp(-seconds / kSpeedSeconds);
  images_per_s_ += weight * (rate - images_per_s_);
}

StepOptions Trainer::Options() {
  return {.precision = precision_,
          .seed = inputs_.spec.seed,
          .label_smoothing = inputs_.spec.label_smoothing,
          .on_wake = [this] { OnWake(); }};
}

void Trainer::Report(std::string_view phase) {
  if (!hooks_.progress) return;
  wire::Progress progress;
  const int64_t per_epoch = plan_.StepsPerEpoch();
  progress.set_epochs(static_cast<int32_t>((steps_ + per_epoch - 1) / per_epoch));
  progress.set_epoch(static_cast<int32_t>(std::min(step_, std::max<int64_t>(0, steps_ - 1)) / per_epoch));
  progress.set_step(static_cast<int32_t>(step_));
  progress.set_steps(static_cast<int32_t>(steps_));
  progress.set_loss(smoothed_loss_);
  progress.set_accuracy(accuracy_);
  progress.set_images_per_s(images_per_s_);
  bool known = steps_ > 0 && images_per_s_ > 0;
  progress.set_eta_s(known ? static_cast<double>((steps_ - step_) * plan_.batch()) / images_per_s_ : -1);
  progress.set_phase(warning_.empty() ? std::string(phase) : StrCat(phase, "; ", warning_));
  progress.set_threads(pool_.threads());
  hooks_.progress(progress);
}

}  // namespace tandem::training
