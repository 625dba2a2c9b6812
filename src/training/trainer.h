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
#include "spec/train_spec.h"
#include "training/checkpoint.h"
#include "training/evaluate.h"
#include "training/step.h"

namespace tandem::training {

struct TrainerInputs {
  spec::TrainSpec spec;
  wire::Dataset dataset;              // as data::Inspect made it
  std::string model_path;             // ONNX file; empty = the spec's architecture
  std::filesystem::path folder;       // checkpoints and the lock; empty = none are written
  std::filesystem::path output_path;  // where the trained file goes
  int threads = 1;
  Clock* clock = Clock::Real();
};

// Called on Run's thread; any may be empty.
struct TrainerHooks {
  std::function<void(const wire::Progress&)> progress;  // after each step and each change of phase
  std::function<void(int64_t step, const std::string& path)> checkpointed;
  std::function<void(bool)> paused;
};

struct TrainerOutcome {
  bool stopped = false;  // Stop came first; a checkpoint holds `step`
  int64_t step = 0;
  // loss and accuracy (validation split), train_loss, images_per_s, seconds, steps
  std::map<std::string, double> metrics;
};

// Create checks everything that can be checked before the first step. Run once. The verbs may come at any time from any
// thread, and act at the next micro-batch.
class Trainer {
 public:
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(TrainerInputs inputs);

  // Goes on from the folder's latest checkpoint. For any number of threads, changed at any time, and any stops and
  // resumptions, the file at output_path has the same bytes.
  absl::StatusOr<TrainerOutcome> Run(const TrainerHooks& hooks);

  void Pause() { pool_.SetPaused(true); }
  void Resume() { pool_.SetPaused(false); }
  void Stop() { pool_.Stop(); }
  void RequestCheckpoint();
  void SetThreads(int threads) { pool_.SetThreads(threads); }

 private:
  Trainer(TrainerInputs inputs, Precision precision, Model model, std::unique_ptr<data::Dataset> train,
          std::unique_ptr<data::Dataset> val);

  // State (trainer_state.cc).
  std::vector<std::pair<std::string, at::Tensor>> NamedTensors() const;
  Checkpoint Snapshot() const;
  absl::Status Restore(const Checkpoint& checkpoint);
  absl::Status CheckFinite() const;
  // Writes a checkpoint; a failure (a full disk) is a warning, the job goes on and tries again at the next turn.
  void WriteCheckpoint();
  bool CheckpointDue() const;

  // Before the first step.
  absl::Status Open();
  absl::Status FixSteps();
  absl::StatusOr<double> MeasureSecondsPerStep();

  absl::Status Loop();
  absl::Status TrainStep(BatchLoader* loader);
  bool EvaluationDue() const;
  absl::Status EvaluateIfDue();
  absl::Status CheckpointIfDue();
  TrainerOutcome Leave();
  absl::StatusOr<TrainerOutcome> Finish();

  // On Run's thread while it waits for the workers.
  void OnWake();
  void Report(std::string_view phase);
  void CountSpeed(int64_t samples, int64_t nanos);
  StepOptions Options();

  const TrainerInputs inputs_;
  Precision precision_;
  Model model_;
  const std::unique_ptr<data::Dataset> train_, val_;
  const std::string fingerprint_;
  const Plan plan_;
  std::unique_ptr<Optimizer> optimizer_;
  WorkerPool pool_;
  TrainerHooks hooks_;
  std::optional<FileLock> lock_;
  std::optional<CheckpointFolder> folder_;
  std::atomic<bool> checkpoint_requested_{false};

  // Position: what a checkpoint holds beside the tensors.
  int64_t step_ = 0, steps_ = 0, evaluated_step_ = -1;
  double smoothed_loss_ = 0;
  double loss_ = 0, accuracy_ = -1;

  // Of this run only.
  int64_t checkpointed_step_ = -1;
  int64_t checkpoint_nanos_ = 0;  // when the last one was written or tried
  std::string warning_;           // why the last one failed
  int64_t start_nanos_ = 0;
  int64_t rest_began_ = 0, rest_nanos_ = 0;  // pauses: since when (0 = none), and their sum
  int64_t trained_samples_ = 0, trained_nanos_ = 0;
  double images_per_s_ = 0;  // smoothed over a few seconds
};

}  // namespace tandem::training
