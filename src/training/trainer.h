#pragma once
// One training job in this process, from spec to trained ONNX file.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "api.pb.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/sync.h"
#include "spec/train_spec.h"
#include "training/checkpoint_writer.h"
#include "training/evaluate.h"
#include "training/gate_watcher.h"
#include "training/step.h"

namespace tandem::training {

struct TrainerInputs {
  spec::TrainSpec spec;
  wire::Dataset dataset;              // as data::Inspect made it
  std::string model_path;             // ONNX file; empty = the spec's architecture
  std::filesystem::path folder;       // checkpoints and the lock; empty = none are written
  std::filesystem::path output_path;  // where the trained file goes
  int threads = 1;
  std::filesystem::path pressure_file = {};  // how many of `threads` may run now (base/pressure_word.h); empty = all
  double disk_write_bytes_per_s = 0;         // own writes are paced to it; 0 = as fast as the disk
  Clock* clock = Clock::Real();
};

// Called on Run's thread; any may be empty.
struct TrainerHooks {
  std::function<void(const wire::Progress&)> progress;                      // after each step and each change of phase
  std::function<void(int64_t step, const std::string& path)> checkpointed;  // it is durable
  std::function<void(bool)> paused;
  // After Stop: the checkpoint is durable. Threads may still be in a micro-batch whose result nobody wants.
  std::function<void(int64_t step)> left;
};

struct TrainerOutcome {
  bool stopped = false;  // Stop came first; a checkpoint holds `step`
  int64_t step = 0;
  // loss and accuracy (validation split), train_loss, images_per_s, seconds, steps; steps_planned if the time budget
  // was over before them
  std::map<std::string, double> metrics;
  double idle_share = 0;  // of the training threads' time between first and last step
};

// Create checks everything that can be checked before the first step. Run once. The verbs may come at any time from any
// thread, and act at the next micro-batch; Stop also while the folder is another trainer's.
class Trainer {
 public:
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(TrainerInputs inputs);

  // Goes on from the folder's latest checkpoint; Unavailable if another trainer holds the folder for 30 s. For any
  // number of threads, changed at any time, and any stops and resumptions, the file at output_path has the same bytes.
  absl::StatusOr<TrainerOutcome> Run(const TrainerHooks& hooks);

  void Pause() { pool_.SetPaused(true); }
  void Resume() { pool_.SetPaused(false); }
  void Stop();
  void RequestCheckpoint();
  void SetThreads(int threads) { pool_.SetThreads(threads); }

 private:
  Trainer(TrainerInputs inputs, Precision precision, Model model, std::unique_ptr<data::Dataset> train,
          std::unique_ptr<data::Dataset> val);

  static absl::StatusOr<std::unique_ptr<Trainer>> Prepare(TrainerInputs inputs);

  // Before the first step.
  absl::Status Open();
  absl::StatusOr<FileLock> LockFolder();
  absl::Status FixSteps();
  absl::StatusOr<double> MeasureSecondsPerStep();

  absl::Status Loop();
  absl::Status TrainStep(BatchLoader* loader);
  absl::Status CheckLoss(double loss, double lr) const;
  // Whether a job with a time budget ends before its steps are done.
  bool BudgetOver();
  absl::Status Complete();
  TrainerOutcome Leave();
  absl::StatusOr<TrainerOutcome> Finish();

  // State (trainer_state.cc).
  std::vector<std::pair<std::string, at::Tensor>> NamedTensors() const;
  Checkpoint Snapshot() const;  // shares the tensors' memory
  absl::Status Restore(const Checkpoint& checkpoint);
  absl::Status Diverged(const absl::Status& why, int64_t step) const;
  bool CheckpointDue() const;
  void CheckpointIfDue();
  // Copies the state; the rest is done beside the training.
  void BeginCheckpoint();
  // Writes the present state on this thread. REQUIRES: no update in progress.
  void WriteCheckpointNow();
  // A failure (a full disk) is a warning: the job goes on and tries again at the next turn.
  void TakeCheckpoint(std::optional<CheckpointWriter::Result> result);

  // Evaluations (trainer_evaluate.cc): at the end of an epoch on a copy of the weights, while the next one trains.
  bool EvaluationDue(bool last) const;
  void BeginEvaluation();
  // Its result if it is done; `wait`: all workers end it now.
  absl::Status TakeEvaluation(bool wait = false);
  // One that the threads' gaps did not suffice for.
  absl::Status FinishLateEvaluation();

  // On Run's thread while it waits for the workers.
  void OnWake();
  void ReportRest();
  void Report(std::string_view phase);
  void CountSpeed(int64_t samples, int64_t nanos);
  StepOptions Options();
  int64_t Now() const { return inputs_.clock->MonotonicNanos(); }
  // Since Run began, without pauses: what a time budget is about. Stands still until the end of a pause was noticed,
  // which may be a step later.
  int64_t WorkedNanos() const { return (rest_began_ != 0 ? rest_began_ : Now()) - start_nanos_ - rest_nanos_; }

  const TrainerInputs inputs_;
  Precision precision_;
  Model model_;
  const std::unique_ptr<data::Dataset> train_, val_;
  const std::string fingerprint_;
  const Plan plan_;
  std::unique_ptr<Optimizer> optimizer_;
  WorkerPool pool_;
  StopSource stop_;  // for what waits without the pool
  std::unique_ptr<GateWatcher> gate_;
  TrainerHooks hooks_;
  std::optional<FileLock> lock_;
  PacedWriter pace_;
  std::optional<CheckpointFolder> folder_;
  std::optional<CheckpointWriter> writer_;
  std::atomic<bool> checkpoint_requested_{false};
  std::unique_ptr<Evaluator> evaluation_;  // under way

  // Position: what a checkpoint holds beside the tensors.
  int64_t step_ = 0, steps_ = 0, evaluated_step_ = -1;
  double smoothed_loss_ = 0;
  double loss_ = 0, accuracy_ = -1;

  // Of this run only.
  int64_t resumed_step_ = 0;
  int64_t checkpointed_step_ = -1;
  int64_t checkpoint_nanos_ = 0;  // when the last one was begun
  int64_t evaluation_step_ = -1;  // of the last evaluation that was begun, and when that was
  int64_t evaluation_nanos_ = 0;
  absl::Status diverged_;  // a checkpoint found a number that is none
  std::string warning_;    // why the last checkpoint failed
  std::string note_;       // why the job ends early
  bool left_ = false, gated_ = false;
  int64_t start_nanos_ = 0;
  int64_t rest_began_ = 0, rest_nanos_ = 0;  // pauses: since when (0 = none), and their sum
  int64_t trained_samples_ = 0, trained_nanos_ = 0;
  double images_per_s_ = 0;  // smoothed over a few seconds
  WorkerPool::Usage usage_;  // of the pool when the first step began
};

}  // namespace tandem::training
