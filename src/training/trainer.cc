#include "training/trainer.h"

#include <ATen/Parallel.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>

#include "base/status.h"
#include "base/text.h"
#include "telemetry/log.h"
#include "training/out_of_memory.h"
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

constexpr std::chrono::seconds kLockPatience{30};  // for a former trainer that writes its checkpoint

// Between a thread that waits for a lock and the one that wants it, who may have gone when it comes: it is then given
// back.
struct LockHandover {
  std::mutex mutex;
  std::condition_variable_any arrived;
  std::optional<absl::StatusOr<FileLock>> lock;  // guarded by mutex
};

// Cancelled after `stop`, DeadlineExceeded when it takes longer than kLockPatience. The kernel's wait for a lock has
// neither a time limit nor an end that another thread could give it: one thread waits, and is left behind if need be,
// which a process that then ends can afford.
absl::StatusOr<FileLock> AwaitLock(const std::filesystem::path& path, const std::string& content,
                                   const StopToken& stop) {
  auto handover = std::make_shared<LockHandover>();
  std::thread([handover, path, content] {
    pthread_setname_np(pthread_self(), "lock");
    absl::StatusOr<FileLock> lock = FileLock::AcquireWhenFree(path, content);
    std::lock_guard guard(handover->mutex);
    handover->lock.emplace(std::move(lock));
    handover->arrived.notify_all();
  }).detach();
  std::unique_lock guard(handover->mutex);
  handover->arrived.wait_for(guard, stop, kLockPatience, [&] { return handover->lock.has_value(); });
  if (handover->lock) return *std::move(handover->lock);
  if (stop.stop_requested()) return Cancelled("stopped");
  return DeadlineExceeded("not free within ", kLockPatience.count(), " s");
}

}  // namespace

void Trainer::Stop() {
  pool_.Stop();  // first: Run asks the pool whether what was cancelled was to stop
  stop_.request_stop();
}

void Trainer::RequestCheckpoint() {
  checkpoint_requested_ = true;
  pool_.Wake();
}

absl::StatusOr<TrainerOutcome> Trainer::Run(const TrainerHooks& hooks) {
  at::set_num_threads(1);
  hooks_ = hooks;
  start_nanos_ = checkpoint_nanos_ = Now();
  absl::Status status = CatchToStatus("training", [&] { return Loop(); });
  if (left_ || (absl::IsCancelled(status) && pool_.stopped())) return Leave();
  TANDEM_RETURN_IF_ERROR(ExplainOutOfMemory(status));
  auto outcome = CatchToStatus("writing the trained model", [&] { return Finish(); });
  if (!outcome.ok()) return ExplainOutOfMemory(outcome.status());
  return outcome;
}

// The trainer of a daemon that was killed may still be writing its checkpoint.
absl::StatusOr<FileLock> Trainer::LockFolder() {
  const std::filesystem::path file = inputs_.folder / "trainer.lock";
  const std::string content = StrCat("pid=", getpid(), "\n");
  absl::StatusOr<FileLock> lock = FileLock::Acquire(file, content);
  if (!absl::IsFailedPrecondition(lock.status())) return lock;
  Report("waiting for the former trainer");
  absl::StatusOr<FileLock> freed = AwaitLock(file, content, stop_.get_token());
  if (freed.ok()) Report("loading");
  if (absl::IsCancelled(freed.status())) step_ = CheckpointFolder(inputs_.folder, &pace_).LatestStep();
  if (!absl::IsDeadlineExceeded(freed.status())) return freed;
  return Unavailable("the job's former trainer did not leave within ", kLockPatience.count(),
                     " s: ", MessageOf(lock.status()));
}

absl::Status Trainer::Open() {
  Report("loading");
  if (inputs_.folder.empty()) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(MakeFolders(inputs_.folder));
  TANDEM_ASSIGN_OR_RETURN(FileLock lock, LockFolder());
  lock_.emplace(std::move(lock));
  folder_.emplace(inputs_.folder, &pace_);
  folder_->RemoveUnfinished();
  writer_.emplace(&*folder_, [this] { pool_.Wake(); });
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
  double left = spec.time_budget_s - static_cast<double>(WorkedNanos()) * kNano - evaluation_s;
  double cost = step_s + evaluation_s / plan_.StepsPerEpoch();
  steps_ = std::max<int64_t>(1, static_cast<int64_t>(left * kBudgetUse / cost));
  Log(LogLevel::kInfo, "the time budget fixes the number of steps",
      {{"budget_s", spec.time_budget_s}, {"step_ms", step_s * 1e3}, {"steps", steps_}});
  // From here on the number is part of the job, however fast the machine is when it goes on.
  WriteCheckpointNow();
  return absl::OkStatus();
}

// Computes the first steps' gradients and drops them: the schedule needs the number of steps before the first update.
absl::StatusOr<double> Trainer::MeasureSecondsPerStep() {
  BatchLoader loader(*train_, plan_, AugmentationOf(inputs_.spec), inputs_.spec.seed, 0,
                     std::numeric_limits<int64_t>::max(), &pool_);
  const int64_t limit = static_cast<int64_t>(inputs_.spec.time_budget_s * kMeasuredFraction / kNano);
  int64_t steps = 0, begin = 0, now = 0;
  // The first step warms up allocators and kernels and is not counted.
  while (steps < 2 || now < limit) {
    TANDEM_ASSIGN_OR_RETURN(Batch batch, loader.Next([this] { OnWake(); }));
    GradientWork work(model_, batch, plan_, steps, Options(), &pool_);
    loader.ReadAhead();
    TANDEM_RETURN_IF_ERROR(work.Finish().status());
    ReportRest();  // of a pause that has just ended
    now = WorkedNanos();
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
  BatchLoader loader(*train_, plan_, AugmentationOf(inputs_.spec), inputs_.spec.seed, step_, steps_, &pool_);
  usage_ = pool_.usage();
  while (step_ < steps_ && !BudgetOver()) {
    TANDEM_RETURN_IF_ERROR(TrainStep(&loader));
    Report("training");
  }
  return Complete();
}

absl::Status Trainer::TrainStep(BatchLoader* loader) {
  TANDEM_ASSIGN_OR_RETURN(Batch batch, loader->Next([this] { OnWake(); }));
  TANDEM_RETURN_IF_ERROR(FinishLateEvaluation());
  const int64_t begin = Now(), rest = rest_nanos_;
  GradientWork work(model_, batch, plan_, step_, Options(), &pool_);
  loader->ReadAhead();
  // The weights stay as they are until the gradients are whole: what needs a copy of them is done now, and no thread
  // waits for it.
  TANDEM_RETURN_IF_ERROR(TakeEvaluation());
  if (EvaluationDue(/*last=*/false)) BeginEvaluation();
  CheckpointIfDue();
  TANDEM_ASSIGN_OR_RETURN(Gradients gradients, work.Finish());
  TANDEM_RETURN_IF_ERROR(diverged_);
  if (left_) return Cancelled("stopped");  // the checkpoint is of the step before
  double lr = LearningRate(inputs_.spec.schedule, inputs_.spec.optimizer.lr, step_, steps_);
  TANDEM_RETURN_IF_ERROR(CheckLoss(gradients.loss, lr));
  TANDEM_RETURN_IF_ERROR(ApplyGradients(gradients, step_, lr, model_, optimizer_.get(), &pool_));
  smoothed_loss_ = step_ == 0 ? gradients.loss : kSmoothing * smoothed_loss_ + (1 - kSmoothing) * gradients.loss;
  ++step_;
  CountSpeed(batch.labels.size(0), Now() - begin - (rest_nanos_ - rest));
  return absl::OkStatus();
}

absl::Status Trainer::CheckLoss(double loss, double lr) const {
  if (std::isfinite(loss)) return absl::OkStatus();
  return Diverged(OutOfRange("loss is ", std::isnan(loss) ? "NaN" : "infinite", " (lr ", lr, ")"), step_);
}

// The steps of a run that goes on from a checkpoint have their part of the budget, whatever the ones before took.
bool Trainer::BudgetOver() {
  if (inputs_.spec.time_budget_s <= 0 || step_ == 0) return false;
  const double part = 1 - static_cast<double>(resumed_step_) / static_cast<double>(steps_);
  const double seconds = static_cast<double>(WorkedNanos()) * kNano;
  if (seconds < inputs_.spec.time_budget_s * part) return false;
  note_ = StrCat("ended at step ", step_, " of ", steps_, ": the time budget was over");
  Log(LogLevel::kWarning,
      "the time budget is over before the last step; the machine gave less than when it was measured",
      {{"step", step_}, {"steps", steps_}, {"budget_s", inputs_.spec.time_budget_s}});
  return true;
}

absl::Status Trainer::Complete() {
  for (bool last : {false, true}) {
    TANDEM_RETURN_IF_ERROR(diverged_);
    if (last && EvaluationDue(last)) BeginEvaluation();
    if (!evaluation_) continue;
    Report("evaluating");
    TANDEM_RETURN_IF_ERROR(TakeEvaluation(/*wait=*/true));
  }
  const WorkerPool::Usage now = pool_.usage();
  usage_ = {.items_nanos = now.items_nanos - usage_.items_nanos,
            .fillers_nanos = now.fillers_nanos - usage_.fillers_nanos,
            .idle_nanos = now.idle_nanos - usage_.idle_nanos};
  if (writer_) TakeCheckpoint(writer_->Wait());
  return diverged_;
}

TrainerOutcome Trainer::Leave() {
  if (!left_) {
    left_ = true;
    Report("checkpointing");  // the daemon is patient with one that says so
    WriteCheckpointNow();
    Log(LogLevel::kInfo, "stopped", {{"step", step_}, {"checkpoint", checkpointed_step_}});
    if (hooks_.left) hooks_.left(step_);
  }
  return {.stopped = true, .step = step_, .metrics = {}};
}

absl::StatusOr<TrainerOutcome> Trainer::Finish() {
  if (absl::Status finite = CheckFinite(NamedTensors()); !finite.ok()) return Diverged(finite, step_);
  Report("writing the model");
  TANDEM_ASSIGN_OR_RETURN(std::string bytes, model_.ToFile());
  TANDEM_RETURN_IF_ERROR(
      Annotate(WriteFileAtomically(inputs_.output_path, bytes, &pace_), "the trained model cannot be written"));
  TrainerOutcome outcome{.stopped = false, .step = step_, .metrics = {}};
  outcome.metrics["train_loss"] = smoothed_loss_;
  outcome.metrics["steps"] = static_cast<double>(step_);
  if (step_ < steps_) outcome.metrics["steps_planned"] = static_cast<double>(steps_);
  outcome.metrics["seconds"] = static_cast<double>(Now() - start_nanos_) * kNano;
  outcome.metrics["images_per_s"] =
      trained_nanos_ > 0 ? static_cast<double>(trained_samples_) / (static_cast<double>(trained_nanos_) * kNano) : 0;
  outcome.metrics["loss"] = evaluated_step_ >= 0 ? loss_ : smoothed_loss_;
  if (evaluated_step_ >= 0) outcome.metrics["accuracy"] = accuracy_;
  const double threads = static_cast<double>(usage_.items_nanos + usage_.fillers_nanos + usage_.idle_nanos);
  outcome.idle_share = threads > 0 ? static_cast<double>(usage_.idle_nanos) / threads : 0;
  Log(LogLevel::kInfo, "trained",
      {{"step", step_},
       {"idle_share", outcome.idle_share},
       {"filler_share", threads > 0 ? static_cast<double>(usage_.fillers_nanos) / threads : 0}});
  return outcome;
}

// The weights are those of the step's beginning until all its micro-batches are done, so a checkpoint may be taken
// here, in a pause too.
void Trainer::OnWake() {
  ReportRest();
  if (pool_.stopped()) {
    Leave();
    return;
  }
  if (!writer_) return;
  TakeCheckpoint(writer_->Take());
  if (checkpoint_requested_ && !writer_->busy()) BeginCheckpoint();
}

void Trainer::ReportRest() {
  if (const bool gated = gate_ && gate_->closed_for_long(); gated != gated_) {
    gated_ = gated;
    Log(LogLevel::kInfo, gated ? "gated: no thread may run" : "the gate is open again", {{"step", step_}});
    Report(gated ? "gated" : "training");
  }
  if (pool_.resting() == (rest_began_ != 0)) return;
  const bool resting = rest_began_ == 0;
  const int64_t now = Now();
  if (!resting) rest_nanos_ += now - rest_began_;
  rest_began_ = resting ? now : 0;
  Log(LogLevel::kInfo, resting ? "paused" : "resumed", {{"step", step_}});
  if (hooks_.paused) hooks_.paused(resting);
  Report(resting ? "paused" : "training");
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
  std::string text(phase);
  for (const std::string& more : {warning_, note_}) text += more.empty() ? "" : StrCat("; ", more);
  progress.set_phase(text);
  progress.set_threads(pool_.threads());
  hooks_.progress(progress);
}

}  // namespace tandem::training
