#include "daemon/model_repository.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "base/background_class.h"
#include "base/status.h"
#include "base/text.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

constexpr double kLongestPauseSeconds = 600;
constexpr int kMostDoublings = 16;
constexpr int kGoneAfter = 2;  // steps; a folder that is being replaced is away for a moment
constexpr std::string_view kUnavailable = "UNAVAILABLE";

// What only other files can cure.
bool IsForGood(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsUnimplemented(status) || absl::IsResourceExhausted(status);
}

bool IsGood(const UpdateResult& result) { return result.problem.ok() && result.versions.empty(); }

bool MayPass(const UpdateResult& result) {
  return (!result.problem.ok() && !IsForGood(result.problem)) ||
         std::ranges::any_of(result.versions, [](const auto& entry) { return !IsForGood(entry.second); });
}

// "m/2: why"; one for the model as a whole too.
std::vector<std::pair<std::string, std::string>> ProblemsOf(const std::string& name, const UpdateResult& result) {
  std::vector<std::pair<std::string, std::string>> all;
  if (!result.problem.ok()) all.emplace_back(name, MessageOf(result.problem));
  for (const auto& [version, status] : result.versions) all.emplace_back(StrCat(name, "/", version), MessageOf(status));
  return all;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelRepository>> ModelRepository::Create(RepositorySettings settings,
                                                                         RepositoryParts parts, ModelCatalog* catalog,
                                                                         serving::Serving* serving) {
  absl::Status readable = ListModelFolders(settings.folder).status();
  if (!readable.ok()) return Annotate(readable, "--model-repository");
  return std::unique_ptr<ModelRepository>(new ModelRepository(std::move(settings), std::move(parts), catalog, serving));
}

ModelRepository::ModelRepository(RepositorySettings settings, RepositoryParts parts, ModelCatalog* catalog,
                                 serving::Serving* serving)
    : settings_(std::move(settings)),
      clock_(parts.clock),
      registry_(parts.registry),
      catalog_(catalog),
      serving_(serving),
      update_(std::move(parts), settings_.folder, settings_.memory_file) {
  // Those whose folder may have gone while no server looked.
  for (const std::string& name : update_.KnownModels()) models_[name];
}

ModelRepository::~ModelRepository() {
  Stop();
  if (thread_.joinable()) thread_.join();
}

void ModelRepository::Start() {
  thread_ = std::thread([this] { Work(); });
}

void ModelRepository::Stop() {
  std::lock_guard lock(mutex_);
  stop_ = true;
  wake_.notify_all();
}

bool ModelRepository::Stopping() const {
  std::lock_guard lock(mutex_);
  return stop_;
}

bool ModelRepository::FirstStepDone() const {
  std::lock_guard lock(mutex_);
  return stepped_;
}

void ModelRepository::Work() {
  EnterBackgroundClass();
  while (!Stopping()) {
    Step();
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, std::chrono::duration<double>(settings_.poll_interval_s), [&] { return stop_; });
  }
}

ModelRepository::Followed ModelRepository::Get(const std::string& name) const {
  std::lock_guard lock(mutex_);
  auto found = models_.find(name);
  return found == models_.end() ? Followed() : found->second;
}

void ModelRepository::Set(const std::string& name, Followed followed) {
  std::lock_guard lock(mutex_);
  models_[name] = std::move(followed);
}

void ModelRepository::Step() {
  std::lock_guard step(step_mutex_);
  absl::StatusOr<std::vector<std::string>> names = ListModelFolders(settings_.folder);
  // A repository that cannot be read says nothing about its models.
  if (names.ok()) StepModels(*names);
  update_.Save();
  std::lock_guard lock(mutex_);
  if (!names.ok() && names.status() != problem_) {
    Log(LogLevel::kError, "the model repository cannot be read; its models stay as they are",
        {{"error", MessageOf(names.status())}});
  }
  problem_ = names.status();
  stepped_ = true;
}

void ModelRepository::StepModels(const std::vector<std::string>& names) {
  std::set<std::string> missing;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [name, unused] : models_) missing.insert(name);
  }
  for (const std::string& name : names) {
    missing.erase(name);
    if (Stopping()) return;
    if (settings_.poll) {
      Follow(name);
    } else {
      std::lock_guard lock(mutex_);
      models_[name];
    }
  }
  for (const std::string& name : missing) {
    if (settings_.poll && !Stopping()) FollowMissing(name);
  }
}

void ModelRepository::Follow(const std::string& name) {
  Followed followed = Get(name);
  absl::StatusOr<ModelFolder> folder = ReadModelFolder(settings_.folder, name);
  if (!folder.ok()) {
    UpdateResult result;
    result.problem = folder.status();
    Record(name, "", std::move(result), &followed);
    return Set(name, std::move(followed));
  }
  const int64_t age_ms = clock_->UnixMillis() - folder->changed_ms;
  const bool settled =
      followed.seen == folder->stamp || static_cast<double>(age_ms) >= settings_.poll_interval_s * 1000;
  followed.seen = folder->stamp;
  followed.missing = 0;
  const bool again = followed.retry_ns != 0 && clock_->MonotonicNanos() >= followed.retry_ns;
  if (settled && (followed.taken_in != folder->stamp || again)) {
    Record(name, folder->stamp, TakeIn(*folder), &followed);
  }
  Set(name, std::move(followed));
}

void ModelRepository::FollowMissing(const std::string& name) {
  Followed followed = Get(name);
  followed.seen.clear();
  if (++followed.missing >= kGoneAfter) {
    UpdateResult result = update_.Forget(name);
    if (result.changed) catalog_->Sync(name);
    if (IsGood(result)) {
      std::lock_guard lock(mutex_);
      models_.erase(name);
      return;
    }
    Record(name, "", std::move(result), &followed);
  }
  Set(name, std::move(followed));
}

UpdateResult ModelRepository::TakeIn(const ModelFolder& folder) {
  UpdateResult result = update_.Update(folder);
  if (result.changed) {
    Log(LogLevel::kInfo, "model taken in from the repository",
        {{"model", folder.name}, {"versions", static_cast<int64_t>(folder.versions.size())}});
    catalog_->Sync(folder.name);
  }
  return result;
}

void ModelRepository::Record(const std::string& name, std::string stamp, UpdateResult result,
                             Followed* followed) const {
  const auto before = ProblemsOf(name, followed->result);
  for (const auto& problem : ProblemsOf(name, result)) {
    if (std::ranges::find(before, problem) != before.end()) continue;
    Log(LogLevel::kError, "the repository's model is not taken in",
        {{"model", problem.first}, {"error", problem.second}});
  }
  followed->retry_ns = 0;
  if (MayPass(result)) {
    const double pause_s = settings_.poll_interval_s * (1 << followed->failures);
    followed->failures = std::min(followed->failures + 1, kMostDoublings);
    followed->retry_ns = clock_->MonotonicNanos() + static_cast<int64_t>(std::min(pause_s, kLongestPauseSeconds) * 1e9);
  } else {
    followed->failures = 0;
  }
  followed->taken_in = std::move(stamp);
  followed->result = std::move(result);
}

absl::StatusOr<bool> ModelRepository::Load(std::string_view model) {
  const std::string name(model);
  if (!CheckName("model name", name).ok()) return false;
  std::vector<int32_t> present;
  {
    std::lock_guard step(step_mutex_);
    absl::StatusOr<registry::Model> former = registry_->Get(name);
    if (former.ok() && !FromRepository(*former)) return false;
    absl::StatusOr<ModelFolder> folder = ReadModelFolder(settings_.folder, name);
    if (absl::IsNotFound(folder.status())) return false;
    TANDEM_RETURN_IF_ERROR(folder.status());
    UpdateResult result = TakeIn(*folder);
    update_.Save();
    Followed followed = Get(name);
    followed.seen = folder->stamp;
    Record(name, folder->stamp, result, &followed);
    Set(name, std::move(followed));
    TANDEM_RETURN_IF_ERROR(result.problem);
    for (const auto& [number, unused] : folder->versions) {
      if (!result.versions.contains(number)) present.push_back(number);
    }
    if (present.empty()) return result.versions.begin()->second;
  }
  TANDEM_RETURN_IF_ERROR(registry_->SetEnabled(name, true));
  TANDEM_ASSIGN_OR_RETURN(registry::Model made, registry_->Get(name));
  const std::vector<int32_t> served = spec::VersionsServed(VersionsOf(made, ConfigOf(made)), present);
  for (int32_t version : served) TANDEM_RETURN_IF_ERROR(registry_->SetQuarantine(name, version, false, ""));
  catalog_->Sync(std::string(name));
  for (int32_t version : served) {
    TANDEM_RETURN_IF_ERROR(serving_->WaitUntilReady(name, version, settings_.ready_timeout_s));
  }
  return true;
}

std::vector<api::RepositoryEntry> ModelRepository::Entries() const {
  std::set<std::string> in_service;
  std::set<std::pair<std::string, int32_t>> known;
  for (const serving::VersionStatus& status : serving_->States()) {
    in_service.insert(status.model);
    known.emplace(status.model, status.version);
  }
  std::set<std::string> unloaded;
  for (const registry::Model& model : registry_->List()) {
    if (!model.enabled) unloaded.insert(model.name);
  }
  std::vector<api::RepositoryEntry> entries;
  std::lock_guard lock(mutex_);
  for (const auto& [name, model] : models_) {
    auto add = [&](std::string version, std::string reason) {
      entries.push_back({name, std::move(version), std::string(kUnavailable), std::move(reason)});
    };
    if (!model.result.problem.ok()) add("", std::string(MessageOf(model.result.problem)));
    for (const auto& [number, status] : model.result.versions) {
      // What is in service under this number has an entry of its own.
      const bool twice = known.contains({name, number});
      add(twice ? "" : StrCat(number), StrCat(twice ? StrCat("version ", number, ": ") : "", MessageOf(status)));
    }
    if (!IsGood(model.result) || in_service.contains(name) || unloaded.contains(name)) continue;
    if (!settings_.poll) {
      add("", "not loaded; load it by its name");
    } else if (model.taken_in.empty()) {
      add("", "new; taken in once its files do not change any more");
    } else {
      add("", "its version policy names none of the versions that are there");
    }
  }
  return entries;
}

void ModelRepository::Check(wire::DoctorReport* report) const {
  constexpr size_t kMostNamed = 5;
  std::vector<std::string> problems;
  wire::DoctorCheck* check = report->add_checks();
  check->set_name("model repository");
  std::lock_guard lock(mutex_);
  if (!problem_.ok()) problems.emplace_back(MessageOf(problem_));
  for (const auto& [name, model] : models_) {
    for (const auto& [what, why] : ProblemsOf(name, model.result)) problems.push_back(StrCat(what, ": ", why));
  }
  std::string detail = StrCat(settings_.folder.string(), ": ", models_.size(), " models");
  for (size_t i = 0; i < std::min(problems.size(), kMostNamed); ++i) StrAppend(&detail, "; ", problems[i]);
  if (problems.size() > kMostNamed) StrAppend(&detail, "; and ", problems.size() - kMostNamed, " more");
  check->set_state(problems.empty() ? "ok" : "warning");
  check->set_detail(detail);
  if (!problems.empty()) check->set_cure("correct the files; they are read again when they change");
}

}  // namespace tandem::daemon
