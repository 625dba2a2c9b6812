#include "daemon/engine_choice_measuring.h"

#include <algorithm>

#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/status.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

constexpr int kMostRows = 64;
// What a request pays for an engine in another process: two wake-ups and the packets, 0.03 to 0.06 ms where measured.
constexpr double kHopMs = 0.05;

bool LeavesSizesOpen(const wire::Prepared& prepared) {
  return std::ranges::any_of(prepared.inputs(), [](const wire::TensorInfo& input) {
    return input.shape_size() > 1 &&
           std::find(input.shape().begin() + 1, input.shape().end(), -1) != input.shape().end();
  });
}

// The reference first, so that all others are compared with it; then what serves already.
std::vector<engine::EngineInfo> InOrder(std::vector<engine::EngineInfo> engines, std::string_view default_engine) {
  auto rank = [&](const engine::EngineInfo& info) {
    return info.name == kReferenceEngine ? 0 : info.name == default_engine ? 1 : 2;
  };
  std::ranges::stable_sort(engines, {}, rank);
  return engines;
}

}  // namespace

int DecidingBatch(const spec::ModelConfig& config) {
  const std::vector<int>& preferred = config.preferred_batch_sizes;
  return std::clamp(preferred.empty() ? config.max_batch_size : preferred.back(), 1, kMostRows);
}

EngineMeasuring::EngineMeasuring(MeasuringParts parts, ChoosableVersion version, fs::path scratch,
                                 std::optional<wire::Dataset> dataset)
    : parts_(std::move(parts)),
      version_(std::move(version)),
      scratch_(std::move(scratch)),
      dataset_(std::move(dataset)),
      spawn_([this](const std::vector<std::string>& argv, double timeout_s) {
        absl::StatusOr<engine::ChildResult> child = parts_.spawn(argv, timeout_s);
        spawn_status_.Update(child.status());
        return child;
      }) {}

EngineMeasuring::~EngineMeasuring() {
  std::error_code error;
  for (const fs::path& stage : stages_) fs::remove_all(stage, error);
  fs::remove_all(scratch_, error);
}

absl::StatusOr<EngineReport> EngineMeasuring::Run(const std::vector<engine::EngineInfo>& engines) {
  TANDEM_RETURN_IF_ERROR(MakeFolders(scratch_));
  if (dataset_) TANDEM_RETURN_IF_ERROR(WriteFileAtomically(scratch_ / "dataset", dataset_->SerializeAsString()));
  report_.default_engine = parts_.catalog->default_engine();
  report_.precision = version_.desired.options.precision;
  report_.batch = DecidingBatch(version_.config);
  report_.note = "the interpreter is not installed";
  for (const engine::EngineInfo& info : InOrder(engines, report_.default_engine)) {
    EngineResult result{.engine = info.name, .version = info.version, .error = info.error};
    absl::Status measured = result.error.empty() ? MeasureOne(info, &result) : absl::OkStatus();
    TANDEM_RETURN_IF_ERROR(spawn_status_);
    if (!measured.ok()) result.error = Shortened(MessageOf(measured), info.name);
    if (info.name == kReferenceEngine) {
      report_.note = result.error.empty() ? "" : StrCat("the interpreter does not run it: ", result.error);
    }
    report_.engines.push_back(std::move(result));
  }
  return report_;
}

absl::Status EngineMeasuring::MeasureOne(const engine::EngineInfo& info, EngineResult* result) {
  engine::PreparedModel model{.engine = info.name, .options = version_.desired.options};
  if (info.name == kReferenceEngine) {
    // It computes in f32 on the CPU alone; where the version is served otherwise, it is no more than the reference.
    model.options.precision = "f32";
    model.options.device = "CPU";
    result->candidate = ServesWith(model.options);
  }
  if (engine::NeedsChild(info.name) && version_.config.isolation == "thread") result->hop_ms = kHopMs;
  TANDEM_ASSIGN_OR_RETURN(model, Prepare(info, model.options));
  TANDEM_ASSIGN_OR_RETURN(const bool sampled, MakeSamples(model));
  if (!sampled) return absl::OkStatus();
  const fs::path outputs = scratch_ / info.name;
  TANDEM_ASSIGN_OR_RETURN(
      wire::Measurement found,
      engine::MeasureInChild(spawn_, model,
                             {.samples = scratch_ / "samples", .reference = reference_, .outputs = outputs},
                             parts_.measure_timeout_s));
  result->latency_ms.insert(found.latency_ms().begin(), found.latency_ms().end());
  result->compared = found.compared();
  result->max_difference = found.max_difference();
  result->relative_difference = found.relative_difference();
  if (reference_.empty()) {
    reference_ = outputs;
    report_.reference = info.name == kReferenceEngine ? kInterpreter : std::string_view(info.name);
  }
  if (!found.mismatch().empty()) {
    return InvalidArgument(found.mismatch(), " (the reference is ", report_.reference, ")");
  }
  return absl::OkStatus();
}

absl::StatusOr<engine::PreparedModel> EngineMeasuring::Prepare(const engine::EngineInfo& info,
                                                               const engine::Options& options) {
  const fs::path loaded_from = parts_.catalog->PreparedFolder(version_, info.name);
  if (ServesWith(options)) {
    absl::StatusOr<wire::Prepared> there = engine::ReadPrepared(loaded_from, info.name, options);
    if (there.ok() && there->engine_version() == info.version) {
      return engine::PreparedModel{info.name, loaded_from, options};
    }
  }
  const fs::path stage = StageOf(info.name);
  stages_.push_back(stage);
  TANDEM_RETURN_IF_ERROR(
      engine::PrepareInChild(spawn_, info.name, version_.desired.model_path, stage, options, parts_.prepare_timeout_s)
          .status());
  std::error_code error;
  const uintmax_t read = fs::file_size(version_.desired.model_path, error);
  parts_.accounting->Note(accounting::ModelEntry(version_.record.model, version_.record.version,
                                                 {.disk_read_bytes = error ? 0 : static_cast<double>(read),
                                                  .disk_written_bytes = static_cast<double>(BytesBelow(stage))}));
  return engine::PreparedModel{info.name, stage, options};
}

absl::StatusOr<bool> EngineMeasuring::MakeSamples(const engine::PreparedModel& model) {
  if (sampled_) return true;
  absl::StatusOr<std::string> source =
      engine::SampleInChild(spawn_, model, report_.batch, dataset_ ? scratch_ / "dataset" : fs::path(),
                            scratch_ / "samples", parts_.measure_timeout_s);
  if (source.ok()) {
    report_.samples = *std::move(source);
    sampled_ = true;
    return true;
  }
  TANDEM_ASSIGN_OR_RETURN(wire::Prepared prepared, engine::ReadPrepared(model.folder, model.engine, model.options));
  if (!absl::IsInvalidArgument(source.status()) || !LeavesSizesOpen(prepared)) return source.status();
  report_.samples = StrCat("none: ", Shortened(MessageOf(source.status()), model.engine));
  return false;
}

void EngineMeasuring::Keep(const std::string& engine) {
  const fs::path stage = StageOf(engine), loaded_from = parts_.catalog->PreparedFolder(version_, engine);
  if (std::ranges::find(stages_, stage) == stages_.end()) return;
  std::error_code error;
  if (!fs::exists(stage / "prepared.json", error)) return;
  // What is there is of another version of the engine, and so nobody's; if somebody prepared it just now, that stays.
  if (engine::ReadPrepared(loaded_from, engine, version_.desired.options).ok()) return;
  fs::remove_all(loaded_from, error);
  fs::rename(stage, loaded_from, error);
}

fs::path EngineMeasuring::StageOf(const std::string& engine) const {
  return StrCat(parts_.catalog->PreparedFolder(version_, engine).string(), ".measured");
}

bool EngineMeasuring::ServesWith(const engine::Options& options) const {
  return options.precision == version_.desired.options.precision && options.device == version_.desired.options.device;
}

// Without what the table says already, and paths that mean nothing to its readers.
std::string EngineMeasuring::Shortened(std::string_view message, const std::string& engine) const {
  absl::string_view text = AbslView(message);
  for (const std::string& what :
       {StrCat("preparing '", version_.desired.model_path.string(), "' for engine '", engine, "'"),
        StrCat("making samples with engine '", engine, "'"), StrCat("measuring engine '", engine, "'")}) {
    if (absl::ConsumePrefix(&text, what)) break;
  }
  absl::ConsumePrefix(&text, " failed: ");
  absl::ConsumePrefix(&text, " ");
  absl::ConsumePrefix(&text, StrCat("engine '", engine, "': "));
  return absl::StrReplaceAll(text, {{version_.desired.model_path.string(), "the model"}});
}

}  // namespace tandem::daemon
