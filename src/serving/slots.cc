#include "serving/slots.h"

#include <algorithm>
#include <set>

#include "base/status.h"

namespace tandem::serving {
namespace {

constexpr const char* kNotYet = "lazy: loaded by its first request";
constexpr const char* kEvicted = "lazy: unloaded to make room; loaded by its next request";

// The part of the settings that a loaded version works by. The rest is read elsewhere, and can change beside it.
spec::ModelConfig WorkedBy(spec::ModelConfig config) {
  const spec::ModelConfig defaults;
  config.lazy = defaults.lazy;
  config.versions = defaults.versions;
  config.approval = defaults.approval;
  config.canary = defaults.canary;
  config.warm_up_batch_sizes = defaults.warm_up_batch_sizes;
  return config;
}

bool Same(const DesiredVersion& a, const DesiredVersion& b) {
  return a.model_path == b.model_path && a.prepared_folder == b.prepared_folder && a.engine == b.engine &&
         a.options.precision == b.options.precision && a.options.device == b.options.device &&
         a.options.threads == b.options.threads && (a.config == b.config || WorkedBy(a.config) == WorkedBy(b.config));
}

}  // namespace

void Slots::SetDesired(std::vector<DesiredModel> models) {
  for (auto& [name, model] : models_) {
    model.desired = false;
    model.wanted_default = 0;
    model.wanted_aliases.clear();
    model.split = Split();
    for (auto& [number, slot] : model.slots) slot.desired = false;
  }
  for (DesiredModel& desired : models) {
    Model& model = models_[desired.name];
    model.desired = true;
    model.wanted_default = desired.default_version;
    model.wanted_aliases = std::move(desired.aliases);
    model.split = desired.split;
    for (DesiredVersion& spec : desired.versions) {
      spec.config = desired.config;
      Want(desired.name, &model, std::move(spec));
    }
  }
  for (auto& [name, model] : models_) Settle(name, &model);
  std::erase_if(models_, [](const auto& entry) { return !entry.second.desired && entry.second.slots.empty(); });
}

void Slots::Want(const std::string& name, Model* model, DesiredVersion spec) {
  auto [at, is_new] = model->slots.try_emplace(spec.version);
  Slot& slot = at->second;
  slot.desired = true;
  // What takes a part of the requests beside the default must be there before they come.
  const bool is_lazy = spec.config.lazy && spec.version != model->split.canary && spec.version != model->split.shadow;
  if (!is_lazy) slot.lazy = nullptr;
  if (is_lazy && slot.lazy == nullptr) {
    slot.lazy = std::make_shared<LazyState>();
    slot.lazy->last_used_nanos = parts_.clock->MonotonicNanos();
    slot.parking = nullptr;
  }
  const bool was_unloaded = slot.status.state == VersionState::kUnloaded;
  // A version that failed is not tried again until it changes or was gone.
  if (!is_new && Same(slot.spec, spec) && !slot.stale) {
    slot.spec = std::move(spec);
    if (!is_lazy && was_unloaded) Demand(name, slot.spec.version);
    return;
  }
  slot.signature_known = false;
  slot.signature = nullptr;
  slot.parking = nullptr;
  slot.spec = std::move(spec);
  slot.stale = false;
  if (slot.lease != nullptr) return Enqueue(name, &slot);  // serves as it was until the new one is ready
  const bool waited_for = slot.ticket != 0;
  slot.status = VersionStatus();
  slot.status.model = name;
  slot.status.version = slot.spec.version;
  slot.status.engine = slot.spec.engine;
  slot.status.precision = slot.spec.options.precision;
  if (is_lazy && !waited_for) return LayDown(&slot, kNotYet);
  Enqueue(name, &slot);
}

void Slots::Enqueue(const std::string& model, Slot* slot) {
  Dequeue(slot);
  slot->ticket = ++last_ticket_;
  queue_.emplace(slot->ticket, std::pair(model, slot->spec.version));
}

void Slots::Dequeue(Slot* slot) {
  queue_.erase(slot->ticket);
  slot->ticket = 0;
}

void Slots::LayDown(Slot* slot, std::string reason) {
  Dequeue(slot);
  slot->status.state = VersionState::kUnloaded;
  slot->status.reason = std::move(reason);
  slot->status.memory_bytes = 0;
}

void Slots::Demand(const std::string& name, int32_t version) {
  auto model = models_.find(name);
  if (model == models_.end()) return;
  auto slot = model->second.slots.find(version);
  if (slot == model->second.slots.end() || slot->second.status.state != VersionState::kUnloaded) return;
  slot->second.status.state = VersionState::kLoading;
  slot->second.status.reason.clear();
  model->second.seen = nullptr;
  Enqueue(name, &slot->second);
}

bool Slots::TakeWanted() {
  bool any = false;
  for (auto& [name, model] : models_) {
    for (auto& [number, slot] : model.slots) {
      if (slot.lazy == nullptr || !slot.lazy->wanted.exchange(false)) continue;
      Demand(name, number);
      any = true;
    }
  }
  return any;
}

std::vector<Slots::Task> Slots::UnknownSignatures() const {
  std::vector<Task> tasks;
  for (const auto& [name, model] : models_) {
    for (const auto& [number, slot] : model.slots) {
      if (slot.lazy != nullptr && !slot.signature_known) tasks.push_back({name, slot.spec, 0});
    }
  }
  return tasks;
}

void Slots::SetSignature(const Task& task, std::shared_ptr<const LazySignature> signature) {
  auto model = models_.find(task.model);
  if (model == models_.end()) return;
  auto slot = model->second.slots.find(task.spec.version);
  if (slot == model->second.slots.end() || !Same(slot->second.spec, task.spec)) return;
  slot->second.signature_known = true;
  slot->second.signature = std::move(signature);
  model->second.seen = nullptr;
}

void Slots::Evict(const std::string& name, int32_t version) {
  auto model = models_.find(name);
  if (model == models_.end()) return;
  auto slot = model->second.slots.find(version);
  if (slot == model->second.slots.end() || slot->second.lazy == nullptr || slot->second.lease == nullptr) return;
  Drain(&model->second, &slot->second);
  LayDown(&slot->second, kEvicted);
  Settle(name, &model->second);
}

std::optional<Slots::Task> Slots::NextTask() const {
  if (queue_.empty()) return std::nullopt;
  const auto& [ticket, place] = *queue_.begin();
  const Model& model = models_.at(place.first);
  Task task{place.first, model.slots.at(place.second).spec, ticket};
  for (const auto& [version, slot] : model.slots) {
    if (slot.version != nullptr) task.instances = std::max(task.instances, slot.instances);
  }
  return task;
}

bool Slots::IsPending(const std::string& model, int32_t version) const {
  auto found = models_.find(model);
  if (found == models_.end()) return false;
  auto slot = found->second.slots.find(version);
  return slot != found->second.slots.end() && slot->second.ticket != 0;
}

VersionStatus Slots::Finish(const Task& task, LoadResult result) {
  auto model = models_.find(task.model);
  if (model != models_.end()) {
    auto slot = model->second.slots.find(task.spec.version);
    if (slot != model->second.slots.end() && slot->second.ticket == task.ticket) {
      Install(&model->second, &slot->second, std::move(result));
      VersionStatus status = slot->second.status;
      Settle(task.model, &model->second);
      return status;
    }
  }
  VersionStatus status;
  status.model = task.model;
  status.version = task.spec.version;
  status.state = VersionState::kUnloading;
  status.reason = "no longer wanted when it was loaded";
  status.memory_bytes = result.memory_bytes;
  if (result.version != nullptr) {
    auto released = std::make_shared<std::atomic<bool>>(true);
    draining_.push_back({std::move(result.version), std::move(released), status});
  }
  return status;
}

void Slots::Install(Model* model, Slot* slot, LoadResult result) {
  Dequeue(slot);
  ++slot->loads;
  VersionStatus& status = slot->status;
  slot->failure = result.version == nullptr ? MessageOf(result.status) : "";
  status.reason = slot->failure;
  status.failed_engine.clear();
  if (result.version == nullptr) {
    if (!absl::IsResourceExhausted(result.status)) status.failed_engine = slot->spec.engine;
    if (slot->lease != nullptr) return;
    status.state = VersionState::kFailed;
    // Memory comes and goes: the next request tries again.
    if (slot->lazy != nullptr && absl::IsResourceExhausted(result.status)) LayDown(slot, slot->failure);
    return;
  }
  Drain(model, slot);
  status.state = VersionState::kReady;
  status.engine = slot->spec.engine;
  status.precision = slot->spec.options.precision;
  status.memory_bytes = result.memory_bytes;
  status.load_seconds = result.seconds;
  slot->version = std::move(result.version);
  slot->instances = slot->version->instances();
  slot->released = std::make_shared<std::atomic<bool>>(false);
  // Dropping the last handle, on whatever thread, frees nothing: it tells the loader.
  slot->lease =
      ModelHandle(slot->version.get(), [waker = parts_.waker, released = slot->released](const LoadedVersion*) {
        released->store(true);
        waker->Signal();
      });
  if (slot->lazy == nullptr) return;
  slot->lazy->last_used_nanos = parts_.clock->MonotonicNanos();
  slot->signature_known = true;
  slot->signature =
      std::make_shared<const LazySignature>(LazySignature{slot->version->inputs(), slot->version->outputs()});
}

void Slots::Drain(Model* model, Slot* slot) {
  if (slot->lease == nullptr) return;
  if (slot->version->HasOpenSequences()) model->elders.push_back({slot->lease, slot->version.get()});
  VersionStatus status = slot->status;
  status.state = VersionState::kUnloading;
  draining_.push_back({std::move(slot->version), std::move(slot->released), std::move(status)});
  slot->lease.reset();
}

int32_t Slots::HighestUsable(const Model& model) {
  int32_t highest = 0;
  bool is_usable = false;
  for (const auto& [number, slot] : model.slots) {
    const bool usable = slot.lease != nullptr || slot.status.state == VersionState::kUnloaded;
    if (!slot.desired || (is_usable && !usable)) continue;
    highest = number;
    is_usable = usable;
  }
  return highest;
}

int32_t Slots::Follow(const std::string& name, Model* model, int32_t wanted, int32_t current) {
  auto ready = [&](int32_t version) {
    auto slot = model->slots.find(version);
    return slot != model->slots.end() && slot->second.lease != nullptr;
  };
  // What was asked for once it is ready; until then what served so far.
  if (wanted == current || ready(wanted) || !ready(current)) return wanted;
  Demand(name, wanted);  // a lazy model that is in use stays so
  return current;
}

void Slots::Settle(const std::string& name, Model* model) {
  model->seen = nullptr;
  const int32_t wanted_default = model->wanted_default != 0 ? model->wanted_default : HighestUsable(*model);
  model->default_version = model->desired ? Follow(name, model, wanted_default, model->default_version) : 0;
  std::map<std::string, int32_t> aliases;
  for (const auto& [alias, wanted] : model->wanted_aliases) {
    auto current = model->aliases.find(alias);
    aliases[alias] = Follow(name, model, wanted, current == model->aliases.end() ? 0 : current->second);
  }
  model->aliases = std::move(aliases);
  DropUnwanted(model);
  if (!model->desired) model->elders.clear();
}

void Slots::DropUnwanted(Model* model) {
  std::set<int32_t> kept = {model->default_version};
  for (const auto& [alias, version] : model->aliases) kept.insert(version);
  for (auto slot = model->slots.begin(); slot != model->slots.end();) {
    if (slot->second.desired || (kept.contains(slot->first) && slot->second.lease != nullptr)) {
      if (!slot->second.desired) {
        slot->second.stale = slot->second.stale || slot->second.ticket != 0;
        Dequeue(&slot->second);
      }
      ++slot;
      continue;
    }
    Dequeue(&slot->second);
    Drain(model, &slot->second);
    slot = model->slots.erase(slot);
  }
}

bool Slots::RetireElders() {
  bool any = false;
  for (auto& [name, model] : models_) {
    const size_t ended =
        std::erase_if(model.elders, [](const ReadyVersion& elder) { return !elder.version->HasOpenSequences(); });
    if (ended == 0) continue;
    model.seen = nullptr;
    any = true;
  }
  return any;
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

RouterMaker::Side Slots::SideOf(const Model& model, int32_t version) {
  RouterMaker::Side side;
  auto found = model.slots.find(version);
  if (found == model.slots.end()) {
    side.why = "is not among the versions to be served";
    return side;
  }
  const auto& [number, slot] = *found;
  side.handle = slot.lease;
  if (slot.status.state == VersionState::kFailed) {
    side.why = StrCat("could not be loaded: ", slot.status.reason);
  } else {
    side.why = slot.status.state == VersionState::kUnloaded ? "is not loaded" : "is being loaded";
  }
  return side;
}

void Slots::AddHolders(const Model& model, TableModel* out) {
  std::vector<ModelHandle> all;
  for (const auto& [number, slot] : model.slots) {
    if (slot.lease != nullptr && slot.lease->ServesSequences()) all.push_back(slot.lease);
  }
  for (const ReadyVersion& elder : model.elders) all.push_back(elder.handle);
  if (all.size() < 2) return;
  for (TableModel::Entry& entry : out->versions) {
    std::vector<ModelHandle> former;
    for (const ReadyVersion& elder : model.elders) {
      if (elder.handle->version() == entry.status.version) former.push_back(elder.handle);
    }
    if (!former.empty()) entry.former = std::make_shared<const std::vector<ModelHandle>>(std::move(former));
  }
  out->holders = std::make_shared<const std::vector<ModelHandle>>(std::move(all));
}

std::shared_ptr<const TableModel> Slots::MakeModel(const std::string& name, Model* model) {
  auto out = std::make_shared<TableModel>();
  out->name = name;
  out->default_version = model->default_version;
  out->aliases.insert(model->aliases.begin(), model->aliases.end());
  out->router = parts_.routers->Make(name, model->split, SideOf(*model, model->default_version),
                                     SideOf(*model, model->split.canary), SideOf(*model, model->split.shadow),
                                     &model->split_history);
  for (auto& [number, slot] : model->slots) {
    if (slot.lazy != nullptr && slot.signature != nullptr && slot.parking == nullptr) {
      slot.parking = std::make_shared<LazyVersion>(name, slot.spec, slot.signature, slot.lazy, parts_.lot);
    }
    TableModel::Entry& entry = out->versions.emplace_back();
    entry = {slot.status, slot.lease,   slot.lazy, slot.lazy == nullptr ? nullptr : slot.parking,
             slot.loads,  slot.failure, nullptr};
    if (out->router == nullptr || slot.status.state != VersionState::kReady || !entry.status.reason.empty()) continue;
    const std::string& canary_problem = out->router->canary_problem();
    const std::string& shadow_problem = out->router->shadow_problem();
    if (number == model->split.canary && !canary_problem.empty()) {
      entry.status.reason = StrCat("gets no canary requests: ", canary_problem);
    } else if (number == model->split.shadow && !shadow_problem.empty()) {
      entry.status.reason = StrCat("gets no shadow requests: ", shadow_problem);
    }
  }
  AddHolders(*model, out.get());
  return out;
}

std::unique_ptr<const Table> Slots::MakeTable() {
  auto table = std::make_unique<Table>();
  table->models.reserve(models_.size());
  for (auto& [name, model] : models_) {
    if (!model.desired) continue;
    if (model.seen == nullptr) model.seen = MakeModel(name, &model);
    table->models.emplace(model.seen->name, model.seen);
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

std::vector<MemoryUser> Slots::InMemory() const {
  std::vector<MemoryUser> users;
  for (const auto& [name, model] : models_) {
    for (const auto& [number, slot] : model.slots) {
      if (slot.lease == nullptr) continue;
      MemoryUser& user = users.emplace_back();
      user.status = slot.status;
      if (slot.lazy == nullptr || slot.ticket != 0) continue;
      const LoadNow load = slot.version->ReadLoad();
      user.evictable =
          slot.lazy->parked == 0 && load.busy == 0 && load.waiting == 0 && !slot.version->HasOpenSequences();
      user.last_used_nanos = slot.lazy->last_used_nanos;
    }
  }
  for (const Draining& draining : draining_) users.push_back({draining.status, false, 0});
  return users;
}

std::vector<Slots::ReadyVersion> Slots::Ready() const {
  std::vector<ReadyVersion> ready;
  for (const auto& [name, model] : models_) {
    for (const auto& [number, slot] : model.slots) {
      if (slot.lease == nullptr) continue;
      ready.push_back({slot.lease, slot.version.get(), slot.status.memory_bytes / std::max(1, slot.instances)});
    }
  }
  return ready;
}

void Slots::SetInstances(const ReadyVersion& of, int instances) {
  auto model = models_.find(of.handle->model());
  if (model == models_.end()) return;
  auto slot = model->second.slots.find(of.handle->version());
  if (slot == model->second.slots.end() || slot->second.lease != of.handle) return;
  slot->second.instances = instances;
  slot->second.status.memory_bytes = of.instance_bytes * instances;
  model->second.seen = nullptr;
}

}  // namespace tandem::serving
