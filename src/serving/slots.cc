#include "serving/slots.h"

#include <algorithm>
#include <set>

#include "base/status.h"

namespace tandem::serving {
namespace {

bool Same(const DesiredVersion& a, const DesiredVersion& b) {
  return a.model_path == b.model_path && a.prepared_folder == b.prepared_folder && a.engine == b.engine &&
         a.options.precision == b.options.precision && a.options.device == b.options.device;
}

}  // namespace

void Slots::SetDesired(std::vector<DesiredModel> models) {
  for (auto& [name, model] : models_) {
    model.desired = false;
    model.wanted_default = 0;
    model.wanted_aliases.clear();
    for (auto& [number, slot] : model.slots) slot.desired = false;
  }
  for (DesiredModel& desired : models) {
    Model& model = models_[desired.name];
    model.desired = true;
    model.wanted_default = desired.default_version;
    model.wanted_aliases = std::move(desired.aliases);
    for (const DesiredVersion& spec : desired.versions) Want(desired.name, &model, spec);
  }
  for (auto& [name, model] : models_) Settle(&model);
  std::erase_if(models_, [](const auto& entry) { return !entry.second.desired && entry.second.slots.empty(); });
}

void Slots::Want(const std::string& name, Model* model, const DesiredVersion& spec) {
  auto [at, is_new] = model->slots.try_emplace(spec.version);
  Slot& slot = at->second;
  slot.desired = true;
  // A version that failed is not tried again until it changes or was gone.
  if (!is_new && Same(slot.spec, spec)) return;
  slot.spec = spec;
  slot.ticket = ++last_ticket_;
  if (slot.lease != nullptr) return;  // serves as it was until the new one is ready
  slot.status = VersionStatus();
  slot.status.model = name;
  slot.status.version = spec.version;
  slot.status.engine = spec.engine;
  slot.status.precision = spec.options.precision;
}

std::optional<Slots::Task> Slots::NextTask() const {
  std::optional<Task> next;
  for (const auto& [name, model] : models_) {
    for (const auto& [number, slot] : model.slots) {
      if (slot.ticket == 0) continue;
      if (!next || slot.ticket < next->ticket) next = Task{name, slot.spec, slot.ticket};
    }
  }
  return next;
}

VersionStatus Slots::Finish(const Task& task, LoadResult result) {
  auto model = models_.find(task.model);
  if (model != models_.end()) {
    auto slot = model->second.slots.find(task.spec.version);
    if (slot != model->second.slots.end() && slot->second.ticket == task.ticket) {
      Install(&slot->second, std::move(result));
      VersionStatus status = slot->second.status;
      Settle(&model->second);
      return status;
    }
  }
  VersionStatus status;
  status.model = task.model;
  status.version = task.spec.version;
  status.state = VersionState::kUnloading;
  status.reason = "no longer wanted when it was loaded";
  if (result.version != nullptr) {
    auto released = std::make_shared<std::atomic<bool>>(true);
    draining_.push_back({std::move(result.version), std::move(released), status});
  }
  return status;
}

void Slots::Install(Slot* slot, LoadResult result) {
  slot->ticket = 0;
  VersionStatus& status = slot->status;
  if (result.version == nullptr) {
    status.reason = MessageOf(result.status);
    if (slot->lease == nullptr) status.state = VersionState::kFailed;
    return;
  }
  Drain(slot);
  status.state = VersionState::kReady;
  status.reason.clear();
  status.engine = slot->spec.engine;
  status.precision = slot->spec.options.precision;
  status.memory_bytes = result.memory_bytes;
  status.load_seconds = result.seconds;
  slot->version = std::move(result.version);
  slot->released = std::make_shared<std::atomic<bool>>(false);
  // Dropping the last handle, on whatever thread, frees nothing: it tells the loader.
  slot->lease = ModelHandle(slot->version.get(), [waker = waker_, released = slot->released](const LoadedVersion*) {
    released->store(true);
    waker->Signal();
  });
}

void Slots::Drain(Slot* slot) {
  if (slot->lease == nullptr) return;
  VersionStatus status = slot->status;
  status.state = VersionState::kUnloading;
  draining_.push_back({std::move(slot->version), std::move(slot->released), std::move(status)});
  slot->lease.reset();
}

void Slots::Settle(Model* model) {
  auto ready = [&](int32_t version) {
    auto slot = model->slots.find(version);
    return slot != model->slots.end() && slot->second.lease != nullptr;
  };
  // What was asked for once it is ready; until then what served so far.
  auto target = [&](int32_t wanted, int32_t current) { return !ready(wanted) && ready(current) ? current : wanted; };

  int32_t wanted_default = model->wanted_default;
  if (wanted_default == 0 && model->desired) {
    for (const auto& [number, slot] : model->slots) {
      if (slot.desired && (slot.lease != nullptr || !ready(wanted_default))) wanted_default = number;
    }
  }
  model->default_version = model->desired ? target(wanted_default, model->default_version) : 0;
  std::map<std::string, int32_t> aliases;
  for (const auto& [alias, wanted] : model->wanted_aliases) {
    auto current = model->aliases.find(alias);
    aliases[alias] = target(wanted, current == model->aliases.end() ? 0 : current->second);
  }
  model->aliases = std::move(aliases);

  std::set<int32_t> kept = {model->default_version};
  for (const auto& [alias, version] : model->aliases) kept.insert(version);
  for (auto slot = model->slots.begin(); slot != model->slots.end();) {
    if (slot->second.desired || (kept.contains(slot->first) && slot->second.lease != nullptr)) {
      if (!slot->second.desired) slot->second.ticket = 0;
      ++slot;
      continue;
    }
    Drain(&slot->second);
    slot = model->slots.erase(slot);
  }
}

std::vector<Draining> Slots::TakeReleased() {
  std::vector<Draining> released;
  for (auto at = draining_.begin(); at != draining_.end();) {
    if (at->released->load()) {
      released.push_back(std::move(*at));
      at = draining_.erase(at);
    } else {
      ++at;
    }
  }
  return released;
}

std::unique_ptr<const Table> Slots::MakeTable() const {
  auto table = std::make_unique<Table>();
  for (const auto& [name, model] : models_) {
    if (!model.desired) continue;
    TableModel& out = table->models[name];
    out.default_version = model.default_version;
    out.aliases.insert(model.aliases.begin(), model.aliases.end());
    for (const auto& [number, slot] : model.slots) out.versions.push_back({slot.status, slot.lease});
  }
  for (const Draining& draining : draining_) table->unloading.push_back(draining.status);
  return table;
}

const VersionStatus* Slots::Find(const std::string& model, int32_t version) const {
  auto found = models_.find(model);
  if (found == models_.end()) return nullptr;
  auto slot = found->second.slots.find(version);
  return slot == found->second.slots.end() ? nullptr : &slot->second.status;
}

std::vector<VersionStatus> Slots::InMemory() const {
  std::vector<VersionStatus> statuses;
  for (const auto& [name, model] : models_) {
    for (const auto& [number, slot] : model.slots) {
      if (slot.lease != nullptr) statuses.push_back(slot.status);
    }
  }
  for (const Draining& draining : draining_) statuses.push_back(draining.status);
  return statuses;
}

}  // namespace tandem::serving
