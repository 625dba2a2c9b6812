#include "daemon/job_starter.h"

#include "base/files.h"
#include "base/status.h"

namespace tandem::daemon {
namespace {

constexpr double kJoinTimeoutSeconds = 120;

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

absl::StatusOr<std::unique_ptr<JobRunner>> JobStarter::Start(const jobs::JobRecord& record, int64_t threads,
                                                             int64_t weight, JobHooks hooks) {
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
                                                    int64_t threads) {
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
  assignment.set_disk_write_bytes_per_s(static_cast<double>(spec.resources.disk_write_bytes_per_s));
  assignment.set_output_path((folder / "trained.onnx").string());
  TANDEM_ASSIGN_OR_RETURN(*assignment.mutable_dataset(), parts_.registry->GetDataset(spec.dataset));
  if (spec.model.architecture.empty()) {
    // A copy of the job's own: what the owner changes or deletes later changes no attempt.
    std::filesystem::path start = folder / "start.onnx";
    if (!std::filesystem::exists(start)) TANDEM_RETURN_IF_ERROR(PlaceStartingModel(spec, start.string()));
    assignment.set_model_path(start.string());
  }
  return assignment;
}

absl::Status JobStarter::PlaceStartingModel(const spec::TrainSpec& spec, const std::string& destination) {
  std::string source = spec.model.onnx;
  if (!spec.model.from.empty()) {
    TANDEM_ASSIGN_OR_RETURN(spec::ModelRef ref, spec::ParseModelRef(spec.model.from));
    TANDEM_ASSIGN_OR_RETURN(registry::Version version, parts_.registry->Resolve(ref.name, ref.alias, ref.version));
    TANDEM_ASSIGN_OR_RETURN(std::filesystem::path path, parts_.artifacts->PathOf(version.sha256));
    source = path.string();
  }
  return parts_.children->RunChecked(
      {BesideSelf("tandem-engine-host").string(), "model", "join", source, "--out", destination}, kJoinTimeoutSeconds);
}

int64_t EstimateMemoryBytes(const spec::TrainSpec& spec, const wire::Dataset& dataset, int64_t threads,
                            int64_t model_file_bytes) {
  constexpr int64_t kRuntimeBytes = 350'000'000;
  constexpr int64_t kFeatureMapsPerInput = 96;  // activations kept for backward, as multiples of the input
  int64_t elements = 1;
  for (int32_t dim : dataset.shape()) elements *= dim;
  const int64_t samples = int64_t{dataset.train()} + dataset.val();
  int64_t weights = model_file_bytes > 0                    ? model_file_bytes
                    : spec.model.architecture == "resnet18" ? 45'000'000
                                                            : 4'000'000;
  int64_t micro_batch = spec.micro_batch > 0 ? spec.micro_batch : std::min<int64_t>(spec.batch, 32);
  return kRuntimeBytes + samples * elements + weights * (4 + threads) +
         threads * micro_batch * elements * 4 * kFeatureMapsPerInput;
}

}  // namespace tandem::daemon
