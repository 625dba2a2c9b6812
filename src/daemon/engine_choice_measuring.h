#pragma once
// One version on every engine: prepared, run on samples, compared, timed. Each engine in children of its own.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "accounting/accounting.h"
#include "daemon/engine_choice_report.h"
#include "daemon/model_catalog.h"
#include "engine/measure.h"

namespace tandem::daemon {

// The batch size that decides: the largest preferred one, else the largest, and no more than 64 rows, beyond which the
// time of a row changes little; 1 where requests are not merged.
int DecidingBatch(const spec::ModelConfig& config);

struct MeasuringParts {
  const ModelCatalog* catalog = nullptr;
  accounting::Accounting* accounting = nullptr;
  engine::SpawnFunction spawn;
  double prepare_timeout_s = 600;
  double measure_timeout_s = 120;  // of one child that makes samples or measures
};

// REQUIRES: used once, by one thread. Removes what it leaves on the disk but for what Keep keeps.
class EngineMeasuring {
 public:
  // `scratch`: a folder of its own, made and removed here. `dataset`: whose validation split gives the samples.
  EngineMeasuring(MeasuringParts parts, ChoosableVersion version, std::filesystem::path scratch,
                  std::optional<wire::Dataset> dataset);
  ~EngineMeasuring();
  EngineMeasuring(const EngineMeasuring&) = delete;
  EngineMeasuring& operator=(const EngineMeasuring&) = delete;

  // A report without key and choice. An error says that nothing was found out: no child could be started.
  absl::StatusOr<EngineReport> Run(const std::vector<engine::EngineInfo>& engines);
  // What was prepared for this engine goes where its load looks for it.
  void Keep(const std::string& engine);

 private:
  // Errors are the engine's own.
  absl::Status MeasureOne(const engine::EngineInfo& info, EngineResult* result);
  absl::StatusOr<engine::PreparedModel> Prepare(const engine::EngineInfo& info, const engine::Options& options);
  // False where no samples fit a model that leaves sizes open: it cannot be measured, and may serve.
  absl::StatusOr<bool> MakeSamples(const engine::PreparedModel& model);
  // Beside the folder that a load uses, which may be in use.
  std::filesystem::path StageOf(const std::string& engine) const;
  bool ServesWith(const engine::Options& options) const;
  std::string Shortened(std::string_view message, const std::string& engine) const;

  const MeasuringParts parts_;
  const ChoosableVersion version_;
  const std::filesystem::path scratch_;
  const std::optional<wire::Dataset> dataset_;
  engine::SpawnFunction spawn_;
  absl::Status spawn_status_;  // the first failure to start a child, or to wait for it
  EngineReport report_;
  std::filesystem::path reference_;  // outputs; empty until an engine has run
  bool sampled_ = false;
  std::vector<std::filesystem::path> stages_;
};

}  // namespace tandem::daemon
