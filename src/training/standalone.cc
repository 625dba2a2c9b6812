#include "training/standalone.h"

#include <google/protobuf/util/json_util.h>

#include <atomic>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "telemetry/log.h"
#include "training/stop_signals.h"
#include "training/trainer.h"

namespace tandem::training {
namespace {

absl::StatusOr<wire::Dataset> ReadDataset(const StandaloneJob& job) {
  TANDEM_ASSIGN_OR_RETURN(std::string json, ReadFile(job.dataset));
  wire::Dataset dataset;
  auto parsed = google::protobuf::util::JsonStringToMessage(json, &dataset);
  if (!parsed.ok()) return InvalidArgument("'", job.dataset.string(), "': ", parsed.ToString());
  if (!job.inspect) return dataset;
  return data::Inspect(dataset);
}

absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(const StandaloneJob& job) {
  TANDEM_ASSIGN_OR_RETURN(std::string yaml, ReadFile(job.spec));
  TANDEM_ASSIGN_OR_RETURN(spec::TrainSpec spec, spec::ParseTrainSpec(yaml, job.spec.string(), job.overrides));
  if (!spec.model.from.empty()) {
    return InvalidArgument("'", job.spec.string(),
                           "': model.from needs a server; use model.onnx or model.architecture");
  }
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset dataset, ReadDataset(job));
  std::string model_path = spec.model.onnx;
  return Trainer::Create({.spec = std::move(spec),
                          .dataset = std::move(dataset),
                          .model_path = std::move(model_path),
                          .folder = job.folder,
                          .output_path = job.out,
                          .threads = job.threads});
}

}  // namespace

std::string ResultLine(const TrainerOutcome& outcome, std::string_view sha256) {
  std::string line =
      absl::StrFormat("{\"stopped\": %s, \"step\": %d", outcome.stopped ? "true" : "false", outcome.step);
  for (const auto& [name, value] : outcome.metrics) {
    StrAppend(&line, ", \"", name, "\": ", std::isfinite(value) ? absl::StrFormat("%.9g", value) : "null");
  }
  absl::StrAppendFormat(&line, ", \"idle_share\": %.4f", outcome.idle_share);
  if (!sha256.empty()) StrAppend(&line, ", \"sha256\": \"", sha256, "\"");
  return line + "}\n";
}

absl::Status RunStandalone(const StandaloneJob& job) {
  std::atomic<Trainer*> current{nullptr};
  std::atomic<bool> stop{false};
  TANDEM_ASSIGN_OR_RETURN(auto signals, StopSignals::Create([&] {
                            stop = true;
                            if (Trainer* trainer = current.load()) trainer->Stop();
                          }));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Trainer> trainer, MakeTrainer(job));
  current = trainer.get();
  if (stop) trainer->Stop();
  absl::StatusOr<TrainerOutcome> outcome = trainer->Run({});
  signals.reset();
  FlushLog();
  TANDEM_RETURN_IF_ERROR(outcome.status());
  std::string sha256;
  if (!outcome->stopped) {
    TANDEM_ASSIGN_OR_RETURN(sha256, Sha256HexOfFile(job.out));
  }
  std::fputs(ResultLine(*outcome, sha256).c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace tandem::training
