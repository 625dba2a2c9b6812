// When a Trainer evaluates, and on what.
#include "base/status.h"
#include "telemetry/log.h"
#include "training/trainer.h"

namespace tandem::training {
namespace {

// After this time an epoch's accuracy is worth more than the gaps of the steps to come.
constexpr int64_t kPatienceNanos = 60'000'000'000;

// The initialisers, with what training changes copied.
interpreter::Values CopyOfValues(const Model& model) {
  interpreter::Values values = model.values();
  for (const auto* names : {&model.trained(), &model.statistics()}) {
    for (const std::string& name : *names) values[name] = values[name].clone();
  }
  return values;
}

}  // namespace

bool Trainer::EvaluationDue(bool last) const {
  if (step_ == 0 || val_->size() == 0 || evaluated_step_ == step_ || evaluation_step_ == step_) return false;
  // After every epoch only where that costs little beside the epoch.
  const bool cheap = val_->size() * 4 <= train_->size();
  return last || (cheap && step_ % plan_.StepsPerEpoch() == 0);
}

void Trainer::BeginEvaluation() {
  evaluation_step_ = step_;
  evaluation_nanos_ = Now();
  evaluation_ = std::make_unique<Evaluator>(model_, CopyOfValues(model_), *val_, &pool_);
}

absl::Status Trainer::TakeEvaluation(bool wait) {
  if (!evaluation_ || (!wait && !evaluation_->done())) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(Evaluation evaluation, evaluation_->Finish([this] { OnWake(); }));
  evaluation_.reset();
  evaluated_step_ = evaluation_step_;
  loss_ = evaluation.loss;
  accuracy_ = evaluation.accuracy;
  Log(LogLevel::kInfo, "evaluated",
      {{"step", evaluated_step_}, {"accuracy", accuracy_}, {"loss", loss_}, {"train_loss", smoothed_loss_}});
  Report("training");
  return absl::OkStatus();
}

absl::Status Trainer::FinishLateEvaluation() {
  if (!evaluation_ || (!EvaluationDue(/*last=*/false) && Now() - evaluation_nanos_ < kPatienceNanos)) {
    return absl::OkStatus();
  }
  Report("evaluating");
  return TakeEvaluation(/*wait=*/true);
}

}  // namespace tandem::training
