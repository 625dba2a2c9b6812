#include "daemon/jobs_service.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "daemon/wire_metrics.h"
#include "engine/model_file.h"
#include "spec/train_spec.h"

namespace tandem::daemon {
namespace {

absl::Status CheckAgainstDataset(const spec::TrainSpec& spec, const wire::Dataset& dataset) {
  if (spec.model.classes > 0 && spec.model.classes < dataset.classes()) {
    return InvalidArgument("model.classes is ", spec.model.classes, ", but data set '", dataset.name(), "' has ",
                           dataset.classes(), " classes");
  }
  if (!spec.model.input.empty() &&
      !std::equal(spec.model.input.begin(), spec.model.input.end(), dataset.shape().begin(), dataset.shape().end())) {
    return InvalidArgument("model.input is ", ToString(spec.model.input), ", but the samples of '", dataset.name(),
                           "' are ", ToString(Shape(dataset.shape().begin(), dataset.shape().end())));
  }
  return absl::OkStatus();
}

absl::Status CheckWindow(const spec::TrainSpec& spec, const Rules& rules) {
  if (spec.window.empty()) return absl::OkStatus();
  std::vector<std::string> names;
  for (const scheduling::Window& window : rules.sharing.windows) {
    if (window.name == spec.window) return absl::OkStatus();
    names.push_back(window.name);
  }
  return InvalidArgument("window '", spec.window, "' is not known", DidYouMean(spec.window, names),
                         "; windows are made with 'tandem policy set'");
}

// A version is better than one that is not there: an alias that is misspelt would promote whatever the job makes. Those
// that tandem moves by itself may be missing yet, and so may all of a model that is new.
absl::Status CheckBound(const spec::TrainSpec& spec, const registry::Registry& registry) {
  if (!spec.register_as || !spec.register_as->promote_if) return absl::OkStatus();
  const std::string& bound = spec.register_as->promote_if->better_than;
  double number = 0;
  if (absl::SimpleAtod(bound, &number)) return absl::OkStatus();
  if (bound == spec.register_as->alias || bound == "champion" || bound == "challenger") return absl::OkStatus();
  absl::StatusOr<registry::Model> model = registry.Get(spec.register_as->model);
  if (!model.ok() || model->aliases.empty() || model->aliases.contains(bound)) return absl::OkStatus();
  std::vector<std::string> names = {"champion", "challenger"};
  for (const auto& [alias, version] : model->aliases) names.push_back(alias);
  std::string hint = DidYouMean(bound, names);
  return InvalidArgument(
      "register.promote_if.better_than is '", bound, "', but model '", model->name, "' has no such alias",
      hint.empty() ? StrCat("; 'tandem models show ", model->name, "' lists those that it has") : hint);
}

}  // namespace

absl::StatusOr<jobs::JobRecord> JobsService::Check(const api::Caller& caller, const spec::TrainSpec& given) {
  spec::TrainSpec spec = given;
  TANDEM_RETURN_IF_ERROR(parts_.housekeeper->CheckArea("training"));
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset dataset, parts_.registry->GetDataset(spec.dataset));
  TANDEM_RETURN_IF_ERROR(CheckAgainstDataset(spec, dataset));
  TANDEM_RETURN_IF_ERROR(CheckWindow(spec, *parts_.governor->rules()));
  TANDEM_RETURN_IF_ERROR(CheckBound(spec, *parts_.registry));
  int64_t file_bytes = 0;
  if (!spec.model.onnx.empty()) {
    if (!caller.local)
      return PermissionDenied("model.onnx names a file of the server; import it first: tandem models import NAME FILE");
    struct stat info;
    if (stat(spec.model.onnx.c_str(), &info) != 0)
      return ErrnoStatus(errno, StrCat("model.onnx '", spec.model.onnx, "'"));
    if (!S_ISREG(info.st_mode)) return InvalidArgument("model.onnx '", spec.model.onnx, "' is no regular file");
    file_bytes = info.st_size;
  }
  if (!spec.model.from.empty()) {
    TANDEM_ASSIGN_OR_RETURN(spec::ModelRef ref, spec::ParseModelRef(spec.model.from));
    TANDEM_ASSIGN_OR_RETURN(registry::Version version, parts_.registry->Resolve(ref.name, ref.alias, ref.version));
    if (version.format != engine::kOnnx) {
      return FailedPrecondition("model '", version.model, "' version ", version.version, " is a TensorFlow model (",
                                version.format, "), which is served as it is; training and evaluation start from ONNX ",
                                "files only");
    }
    spec.model.from = StrCat(version.model, "/", version.version);  // an alias may move before the job starts
    file_bytes = version.bytes;
  }
  int64_t threads = spec.resources.threads > 0 ? spec.resources.threads : settings_.threads;
  int64_t memory = spec.resources.memory_bytes;
  if (memory == 0) memory = EstimateMemoryBytes(spec, dataset, threads, file_bytes);
  if (memory > settings_.memory_bytes) {
    return ResourceExhausted("the job needs about ", HumanBytes(memory), " of memory, training has ",
                             HumanBytes(settings_.memory_bytes),
                             "; lower batch or resources.memory, or raise training.memory");
  }
  if (threads > settings_.threads) {
    return ResourceExhausted("resources.threads is ", threads, ", training has ", settings_.threads,
                             " (training.threads)");
  }
  jobs::JobRecord record;
  record.name = spec.name;
  record.kind = spec.kind;
  record.spec = spec::ToYaml(spec);
  record.submitted_by = caller.name;
  record.priority = spec.priority;
  record.threads = threads;
  record.memory_bytes = memory;
  record.window = spec.window;
  record.time_limit_ms = static_cast<int64_t>(spec.time_limit_s * 1000);
  return record;
}

absl::StatusOr<wire::Job> JobsService::Submit(const api::Caller& caller, const wire::SubmitJobRequest& request) {
  std::vector<std::string> overrides(request.overrides().begin(), request.overrides().end());
  std::string source = request.source().empty() ? "spec" : request.source();
  TANDEM_ASSIGN_OR_RETURN(spec::TrainSpec spec, spec::ParseTrainSpec(request.spec(), source, overrides));
  if (spec.recurring) return SubmitRecurring(caller, std::move(spec));
  TANDEM_ASSIGN_OR_RETURN(jobs::JobRecord record, Check(caller, spec));
  record.idempotency_key = request.idempotency_key();
  TANDEM_ASSIGN_OR_RETURN(record, parts_.jobs->Submit(std::move(record)));
  parts_.loop->Wake();
  return ToWire(record);
}

wire::JobList JobsService::List() {
  wire::JobList list;
  for (const jobs::JobRecord& record : parts_.jobs->List()) *list.add_jobs() = ToWire(record);
  return list;
}

absl::StatusOr<wire::Job> JobsService::Show(int32_t job) {
  TANDEM_ASSIGN_OR_RETURN(jobs::JobRecord record, parts_.jobs->Get(job));
  return ToWire(record);
}

absl::Status JobsService::Cancel(const api::Caller&, int32_t job) {
  TANDEM_RETURN_IF_ERROR(parts_.jobs->RequestCancel(job));
  parts_.loop->Wake();
  return absl::OkStatus();
}

absl::Status JobsService::Pause(const api::Caller&, int32_t job) { return SetPaused(job, true); }
absl::Status JobsService::Resume(const api::Caller&, int32_t job) { return SetPaused(job, false); }

absl::Status JobsService::SetPaused(int32_t job, bool paused) {
  absl::Status kept = parts_.pauses->Anticipate(job, paused, [&] { return parts_.jobs->RequestPause(job, paused); });
  parts_.loop->Wake();
  return kept;
}

absl::Status JobsService::Delete(const api::Caller&, int32_t job) {
  TANDEM_RETURN_IF_ERROR(parts_.jobs->Delete(job));
  std::error_code error;
  std::filesystem::remove_all(paths_.JobFolder(job), error);
  if (error) return ErrnoStatus(error.value(), StrCat("remove '", paths_.JobFolder(job).string(), "'"));
  return absl::OkStatus();
}

absl::StatusOr<wire::LogText> JobsService::Logs(int32_t job, int64_t offset) {
  constexpr size_t kMaxBytes = 256 << 10;
  TANDEM_ASSIGN_OR_RETURN(jobs::JobRecord record, parts_.jobs->Get(job));
  wire::LogText log;
  log.set_complete(jobs::IsEnd(record.state));
  log.set_next_offset(static_cast<double>(offset));
  UniqueFd fd(open(paths_.JobLog(job).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return log;  // it has not started yet
  std::string text(kMaxBytes, '\0');
  ssize_t n = pread(fd.get(), text.data(), text.size(), offset);
  if (n < 0) return ErrnoStatus(errno, StrCat("read '", paths_.JobLog(job).string(), "'"));
  text.resize(n);
  if (static_cast<size_t>(n) == kMaxBytes) log.set_complete(false);
  // The wire is UTF-8; a trainer's output may hold anything, and a piece may end inside a character: its rest is in the
  // next one, unless this is the last.
  if (!log.complete()) text.resize(WholeCharacters(text));
  log.set_next_offset(static_cast<double>(offset + static_cast<int64_t>(text.size())));
  log.set_text(AsUtf8(std::move(text)));
  return log;
}

absl::StatusOr<std::pair<wire::Job, int64_t>> JobsService::Watch(int32_t job, int64_t seen_change, double timeout_s) {
  TANDEM_RETURN_IF_ERROR(parts_.jobs->Get(job).status());
  int64_t change = parts_.events->WaitForChange(job, seen_change, timeout_s);
  TANDEM_ASSIGN_OR_RETURN(wire::Job shown, Show(job));
  return std::make_pair(std::move(shown), change);
}

wire::Job JobsService::ToWire(const jobs::JobRecord& record) const {
  wire::Job job;
  job.set_job(record.id);
  job.set_name(record.name);
  job.set_kind(record.kind);
  job.set_state(std::string(jobs::StateName(record.state)));
  job.set_reason(record.reason);
  job.set_pid(record.pid);
  *job.mutable_progress() = record.progress;
  job.set_attempt(record.attempt);
  job.set_created_ms(static_cast<double>(record.created_ms));
  job.set_started_ms(static_cast<double>(record.started_ms));
  job.set_finished_ms(static_cast<double>(record.finished_ms));
  job.set_submitted_by(record.submitted_by);
  job.set_model(record.model);
  job.set_version(record.version);
  job.set_spec(record.spec);
  job.set_threads(static_cast<int32_t>(record.threads));
  job.set_memory_bytes(static_cast<double>(record.memory_bytes));
  job.set_priority(static_cast<double>(record.priority));
  job.set_window(record.window);
  job.set_recurring(record.recurring);
  FillMetrics(record.metrics_json, job.mutable_metrics());
  if (record.version != 0) {
    absl::StatusOr<registry::Version> version = parts_.registry->GetVersion(record.model, record.version);
    if (version.ok()) {
      job.set_deploy(version->deploy);
      job.set_deploy_reason(version->deploy_reason);
    }
  }
  return job;
}

}  // namespace tandem::daemon
