#include "daemon/job_starter.h"

#include <algorithm>
#include <csignal>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/files.h"
#include "base/status.h"

namespace tandem::daemon {
namespace {

constexpr double kJoinTimeoutSeconds = 120;

// Of the networks that `tandem model new` makes. Measured as the trainer's resident memory at step 2, in float32, of
// images of 16x16 and 224x224 with 2 threads, and rounded up.
struct ArchitectureSize {
  std::string_view name;
  int64_t weights_bytes;
  int64_t kept_per_pixel;           // numbers kept for backward for each pixel of an input
  int64_t kept_per_pixel_of_large;  // resnet18 makes large images smaller at once
};
constexpr int64_t kLargeImage = int64_t{64} * 64;  // pixels
constexpr ArchitectureSize kArchitectureSizes[] = {
    {"mlp", 4'000'000, 64, 64},        {"lenet", 4'000'000, 64, 64},        {"resnet8", 4'000'000, 200, 200},
    {"resnet20", 4'000'000, 620, 620}, {"resnet18", 45'000'000, 5600, 250},
};

// 0 = no limit.
int64_t Tighter(int64_t a, int64_t b) { return a == 0 || b == 0 ? std::max(a, b) : std::min(a, b); }

isolation::GroupLimits LimitsOf(const spec::ResourceSpec& resources, int64_t weight) {
  return {.cpu_weight = weight,
          .cpu_cap = resources.cpu,
          .memory_max_bytes = resources.memory_bytes,
          .max_processes = resources.processes,
          .disk_write_bytes_per_s = resources.disk_write_bytes_per_s,
          .disk_read_bytes_per_s = resources.disk_read_bytes_per_s,
          .disk_iops = resources.disk_iops};
}

}  // namespace

absl::StatusOr<bool> JobStarter::NeedsPreparing(const jobs::JobRecord& record) const {
  TANDEM_ASSIGN_OR_RETURN(spec::TrainSpec spec, spec::ParseTrainSpec(record.spec, StrCat("job ", record.id)));
  std::error_code error;
  return spec.model.architecture.empty() && !std::filesystem::exists(StartingModel(record.id), error);
}

absl::Status JobStarter::Prepare(const jobs::JobRecord& record, const std::atomic<bool>& stop) const {
  TANDEM_ASSIGN_OR_RETURN(spec::TrainSpec spec, spec::ParseTrainSpec(record.spec, StrCat("job ", record.id)));
  TANDEM_RETURN_IF_ERROR(MakeFolders(paths_.JobFolder(record.id)));
  RemoveUnfinished(record.id);  // of a server that was killed meanwhile
  TANDEM_ASSIGN_OR_RETURN(std::string source, SourceOf(spec.model));
  absl::Status joined = parts_.children->RunChecked(
      {BesideSelf("tandem-engine-host").string(), "model", "join", source, "--out", StartingModel(record.id).string()},
      kJoinTimeoutSeconds, Children::Disk::kTraining, &stop);
  if (!joined.ok()) RemoveUnfinished(record.id);
  return joined;
}

void JobStarter::RemoveUnfinished(int32_t job) const {
  std::error_code error;
  const std::string begin = StartingModel(job).filename().string() + ".tmp-";  // base/files.h's AtomicFile
  for (const auto& file : std::filesystem::directory_iterator(paths_.JobFolder(job), error)) {
    if (absl::StartsWith(file.path().filename().string(), begin)) std::filesystem::remove(file.path(), error);
  }
}

absl::StatusOr<std::string> JobStarter::SourceOf(const spec::ModelSpec& model) const {
  if (model.from.empty()) return model.onnx;
  TANDEM_ASSIGN_OR_RETURN(spec::ModelRef ref, spec::ParseModelRef(model.from));
  TANDEM_ASSIGN_OR_RETURN(registry::Version version, parts_.registry->Resolve(ref.name, ref.alias, ref.version));
  TANDEM_ASSIGN_OR_RETURN(std::filesystem::path path, parts_.artifacts->PathOf(version.sha256));
  return path.string();
}

absl::StatusOr<std::unique_ptr<JobRunner>> JobStarter::Start(const jobs::JobRecord& record, int64_t threads,
                                                             int64_t weight, JobHooks hooks) const {
  TANDEM_ASSIGN_OR_RETURN(spec::TrainSpec spec, spec::ParseTrainSpec(record.spec, StrCat("job ", record.id)));
  TANDEM_ASSIGN_OR_RETURN(wire::Assignment assignment, Assign(record, spec, threads));
  TANDEM_RETURN_IF_ERROR(parts_.governor->AddJob(record.id, static_cast<int>(threads), paths_.PressureFile(record.id)));
  absl::StatusOr<std::unique_ptr<JobRunner>> runner =
      JobRunner::Start(assignment, parts_.isolation, LimitsOf(spec.resources, weight),
                       paths_.JobLog(record.id).string(), std::move(hooks));
  if (!runner.ok()) parts_.governor->RemoveJob(record.id);
  return runner;
}

absl::StatusOr<wire::Assignment> JobStarter::Assign(const jobs::JobRecord& record, const spec::TrainSpec& spec,
                                                    int64_t threads) const {
  const std::filesystem::path folder = paths_.JobFolder(record.id);
  TANDEM_RETURN_IF_ERROR(MakeFolders(folder));
  wire::Assignment assignment;
  assignment.set_job(record.id);
  assignment.set_attempt(record.attempt);
  assignment.set_kind("train");
  assignment.set_spec(record.spec);
  assignment.set_threads(static_cast<int32_t>(threads));
  assignment.set_folder(folder.string());
  assignment.set_pressure_file(paths_.PressureFile(record.id).string());
  const int64_t side = parts_.governor->View().grant.training_disk.disk_write_bytes_per_s;
  assignment.set_disk_write_bytes_per_s(static_cast<double>(Tighter(spec.resources.disk_write_bytes_per_s, side)));
  assignment.set_output_path((folder / "trained.onnx").string());
  TANDEM_ASSIGN_OR_RETURN(*assignment.mutable_dataset(), parts_.registry->GetDataset(spec.dataset));
  if (spec.model.architecture.empty()) assignment.set_model_path(StartingModel(record.id).string());
  return assignment;
}

void WakeFormerTrainers(const Paths& paths) {
  std::error_code error;
  for (const auto& folder : std::filesystem::directory_iterator(paths.checkpoints(), error)) {
    const std::filesystem::path file = folder.path() / "trainer.lock";
    if (!std::filesystem::exists(file, error)) continue;
    const std::string text = ReadFile(file, 64).value_or("");
    int pid = 0;
    // Only who holds the lock has the number that stands in it.
    if (absl::StartsWith(text, "pid=") && absl::SimpleAtoi(text.substr(4, text.find('\n') - 4), &pid) && pid > 0 &&
        absl::IsFailedPrecondition(FileLock::Acquire(file, text).status())) {
      kill(pid, SIGCONT);
    }
  }
}

int64_t EstimateMemoryBytes(const spec::TrainSpec& spec, const wire::Dataset& dataset, int64_t threads,
                            int64_t model_file_bytes) {
  constexpr int64_t kRuntimeBytes = 350'000'000;
  // Numbers kept for backward for each number of the input, where nothing is known of the network.
  constexpr int64_t kKeptPerInput = 96;
  int64_t elements = 1;
  for (int32_t dim : dataset.shape()) elements *= dim;
  const int64_t pixels = dataset.shape_size() == 3 ? elements / std::max(1, dataset.shape(0)) : elements;
  int64_t weights = model_file_bytes > 0 ? model_file_bytes : 4'000'000;
  int64_t kept = elements * kKeptPerInput;
  for (const ArchitectureSize& known : kArchitectureSizes) {
    if (spec.model.architecture != known.name) continue;
    weights = known.weights_bytes;
    kept = pixels * (pixels < kLargeImage ? known.kept_per_pixel : known.kept_per_pixel_of_large);
  }
  const int64_t samples = int64_t{dataset.train()} + dataset.val();
  const int64_t micro_batch = spec.micro_batch > 0 ? spec.micro_batch : std::min<int64_t>(spec.batch, 32);
  const int64_t in_flight = std::max(micro_batch, std::min(threads * micro_batch, int64_t{spec.batch}));
  return kRuntimeBytes + samples * elements + weights * (4 + threads) +
         in_flight * kept * static_cast<int64_t>(sizeof(float));
}

}  // namespace tandem::daemon
