#include "serving/serving.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/background_class.h"
#include "base/status.h"
#include "base/text.h"
#include "base/waker.h"
#include "serving/data_plane.h"
#include "serving/instance_pool.h"
#include "serving/lazy.h"
#include "serving/load.h"
#include "serving/memory.h"
#include "serving/router.h"
#include "serving/shadow.h"
#include "serving/slots.h"
#include "serving/table.h"
#include "serving/version_metrics.h"
#include "telemetry/published.h"

namespace tandem::serving {
namespace {

constexpr int64_t kTickNanos = 1'000'000'000;  // how often instances are adjusted
constexpr int64_t kGrowthNanos = 100'000'000;  // the same while requests wait for one, and while their number changes
// For memory that is being given back. Nearly always it is at once; this is for requests that began just before.
constexpr int64_t kUnloadWaitNanos = 2'000'000'000;

class LoadingServing : public Serving {
 public:
  LoadingServing(const ServingSettings& settings, engine::SpawnFunction spawn, Metrics* metrics, Clock* clock,
                 LoadEvents events, std::shared_ptr<MetricsBook> book)
      : settings_(settings),
        spawn_(std::move(spawn)),
        clock_(clock),
        events_(std::move(events)),
        book_(std::move(book)),
        plane_(settings.response_cache_bytes, clock),
        routers_(metrics, clock, shadows_.queue()),
        table_(std::make_unique<const Table>()),
        lot_(
            &plane_.executor,
            [this](std::string_view model, int32_t version) {
              return table_.Read([&](const Table& table) { return table.FindLazy(model, version); });
            },
            clock, settings.max_wait_s, settings.queue_limit, waker_),
        slots_({waker_, &routers_, &lot_, clock}),
        loader_([this] { Loop(); }),
        adjuster_([this] { AdjustLoop(); }) {}

  ~LoadingServing() override {
    shadows_.Stop();  // its copies hold versions
    Update([&] {
      slots_.SetDesired({});
      stopping_ = true;
    });
    plane_.adjuster.Signal();
    adjuster_.join();  // it may hold a version
    loader_.join();
  }

  void SetDesired(std::vector<DesiredModel> models) override {
    Update([&] { slots_.SetDesired(std::move(models)); });
  }

  void SetMemoryLimit(int64_t bytes) override {
    if (allowed_memory_bytes_.exchange(bytes) != bytes) plane_.adjuster.Signal();
  }

  void SetInstanceBound(int instances) override {
    if (plane_.instance_bound.exchange(instances) != instances) plane_.adjuster.Signal();
  }

  absl::StatusOr<ModelHandle> Find(std::string_view model, std::string_view version_or_alias) const override {
    return table_.Read([&](const Table& table) { return table.Find(model, version_or_alias); });
  }

  absl::StatusOr<Target> Open(std::string_view model, std::string_view version_or_alias) const override {
    return table_.Read([&](const Table& table) { return table.Open(model, version_or_alias, *clock_, waker_.get()); });
  }

  absl::StatusOr<CanaryReport> ReadCanary(std::string_view model) const override {
    TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<const Router> router, RouterOf(model, "canary"));
    return router->ReadCanary();
  }

  absl::StatusOr<ShadowReport> ReadShadow(std::string_view model) const override {
    TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<const Router> router, RouterOf(model, "shadow"));
    return router->ReadShadow();
  }

  std::vector<VersionStatus> States() const override {
    return table_.Read([](const Table& table) {
      std::vector<VersionStatus> states = table.unloading;
      for (const auto& [name, model] : table.models) {
        for (const TableModel::Entry& entry : model->versions) states.push_back(entry.status);
      }
      std::sort(states.begin(), states.end(), [](const VersionStatus& a, const VersionStatus& b) {
        return a.model != b.model ? a.model < b.model : a.version < b.version;
      });
      return states;
    });
  }

  std::vector<int32_t> ReadyVersions(std::string_view model) const override {
    return VersionsOf(model, [](const TableModel::Entry& entry) { return entry.handle != nullptr; });
  }

  std::vector<int32_t> ServedVersions(std::string_view model) const override {
    return VersionsOf(model, [](const TableModel::Entry& entry) {
      return entry.handle != nullptr || (entry.lazy != nullptr && entry.status.state != VersionState::kFailed);
    });
  }

  std::vector<LoadNow> Loads() const override {
    return table_.Read([](const Table& table) {
      std::vector<LoadNow> loads;
      for (const auto& [name, model] : table.models) {
        for (const TableModel::Entry& entry : model->versions) {
          if (entry.handle != nullptr) loads.push_back(entry.handle->ReadLoad());
        }
      }
      return loads;
    });
  }

  std::vector<VersionUse> Uses() const override { return book_->Uses(); }
  double ChildCpuSeconds() const override { return static_cast<double>(book_->ChildRequestNanos()) / 1e9; }

  absl::Status WaitUntilReady(std::string_view model, int32_t version, double timeout_s) override {
    std::string name(model);
    if (IsUnloaded(name, version)) Update([&] { slots_.Demand(name, version); });
    std::unique_lock lock(mutex_);
    absl::Status result;
    auto decided = [&] {
      const VersionStatus* status = slots_.Find(name, version);
      if (status == nullptr) {
        result = NotFound("model '", model, "' version ", version, " is not to be served");
      } else if (status->state == VersionState::kFailed || status->state == VersionState::kUnloaded) {
        result = FailedPrecondition("model '", model, "' version ", version, " could not be loaded: ", status->reason);
      }
      return status == nullptr || (status->state != VersionState::kLoading && !slots_.IsPending(name, version));
    };
    if (changed_.wait_for(lock, std::chrono::duration<double>(timeout_s), decided)) return result;
    return DeadlineExceeded("model '", model, "' version ", version, " was not ready within ", HumanSeconds(timeout_s));
  }

  WorkSource* work() override { return &lot_; }

  bool Settled() const override {
    std::lock_guard lock(mutex_);
    return !slots_.NextTask() && slots_.UnknownSignatures().empty();
  }

 private:
  template <typename Wanted>
  std::vector<int32_t> VersionsOf(std::string_view model, const Wanted& wanted) const {
    return table_.Read([&](const Table& table) {
      std::vector<int32_t> versions;
      auto found = table.models.find(model);
      if (found == table.models.end()) return versions;
      for (const TableModel::Entry& entry : found->second->versions) {
        if (wanted(entry)) versions.push_back(entry.status.version);
      }
      return versions;
    });
  }

  // Changes the book under the lock, shows the result to requests, and wakes everybody.
  template <typename Change>
  void Update(Change&& change) {
    std::lock_guard lock(mutex_);
    change();
    table_.Replace(slots_.MakeTable());
    lot_.TableChanged();
    changed_.notify_all();
    waker_->Signal();
  }

  bool IsUnloaded(const std::string& model, int32_t version) const {
    std::lock_guard lock(mutex_);
    const VersionStatus* status = slots_.Find(model, version);
    return status != nullptr && status->state == VersionState::kUnloaded;
  }

  absl::StatusOr<std::shared_ptr<const Router>> RouterOf(std::string_view model, std::string_view what) const {
    std::shared_ptr<const Router> router = table_.Read([&](const Table& table) {
      auto found = table.models.find(model);
      return found == table.models.end() ? nullptr : found->second->router;
    });
    if (router == nullptr) return NotFound("model '", model, "' has no ", what);
    return router;
  }

  void Loop() {
    EnterBackgroundClass();  // loading must not take the processor from requests
    while (true) {
      const uint32_t seen = waker_->Read();
      UnloadReleased();
      LearnSignatures();
      std::optional<Slots::Task> task;
      bool done = false, wanted = false;
      {
        std::lock_guard lock(mutex_);
        wanted = slots_.TakeWanted();
        task = slots_.NextTask();
        done = stopping_ && !slots_.HasDraining();
      }
      if (done) return;
      if (wanted) Update([] {});
      if (task) {
        Execute(*task);
      } else {
        waker_->Wait(seen);
      }
    }
  }

  // Instances come and go on a thread of their own: a load may take minutes.
  void AdjustLoop() {
    EnterBackgroundClass();
    while (true) {
      const uint32_t seen = plane_.adjuster.Read();
      plane_.starving = false;
      std::vector<Slots::ReadyVersion> ready;
      int64_t taken = 0;
      {
        std::lock_guard lock(mutex_);
        if (stopping_) return;
        ready = slots_.Ready();
        for (const MemoryUser& user : slots_.InMemory()) taken += user.status.memory_bytes;
      }
      if (MemoryLimit() != 0 && taken > MemoryLimit()) KeepLimit();
      RetireElders();
      const int64_t before = taken;
      bool too_many = false;
      for (; !ready.empty(); ready.pop_back()) {
        taken += AdjustInstances(ready.back(), taken);
        too_many |= ready.back().version->HasTooManyInstances();
      }
      plane_.adjuster.Wait(seen, taken > before || too_many ? kGrowthNanos : kTickNanos);
      // Not at once: there must be something to judge by.
      if (plane_.starving) plane_.adjuster.Wait(plane_.adjuster.Read(), kGrowthNanos);
    }
  }

  void RetireElders() {
    bool any = false;
    {
      std::lock_guard lock(mutex_);
      any = slots_.RetireElders();
    }
    if (any) Update([] {});
  }

  // The limit was lowered: lazy versions that are idle go if that is enough.
  void KeepLimit() {
    std::vector<MemoryUser> users;
    {
      std::lock_guard lock(mutex_);
      users = slots_.InMemory();
    }
    const std::vector<size_t> victims = ChooseEvictions(0, MemoryLimit(), users);
    if (!victims.empty()) Evict(users, victims);
  }

  void Evict(const std::vector<MemoryUser>& users, const std::vector<size_t>& victims) {
    Update([&] {
      for (size_t i : victims) slots_.Evict(users[i].status.model, users[i].status.version);
    });
  }

  // Gives the bytes that it takes more.
  int64_t AdjustInstances(const Slots::ReadyVersion& of, int64_t taken) {
    const int before = of.version->instances();
    const int64_t limit = MemoryLimit();
    const int now = of.version->AdjustInstances(limit == 0 || taken + of.instance_bytes <= limit);
    if (now != before) Update([&] { slots_.SetInstances(of, now); });
    return of.instance_bytes * (now - before);
  }

  // Reads files, so not under the lock.
  void LearnSignatures() {
    std::vector<Slots::Task> tasks;
    {
      std::lock_guard lock(mutex_);
      tasks = slots_.UnknownSignatures();
    }
    if (tasks.empty()) return;
    std::vector<std::shared_ptr<const LazySignature>> signatures;
    for (const Slots::Task& task : tasks) signatures.push_back(ReadSignature(task.model, task.spec));
    Update([&] {
      for (size_t i = 0; i < tasks.size(); ++i) slots_.SetSignature(tasks[i], signatures[i]);
    });
  }

  int64_t MemoryLimit() const {
    const int64_t allowed = allowed_memory_bytes_, own = settings_.memory_limit_bytes;
    return allowed > 0 && (own == 0 || allowed < own) ? allowed : own;
  }

  void Execute(const Slots::Task& task) {
    if (events_.on_loading) events_.on_loading(task.model, task.spec.version, task.spec.engine);
    if (RunsInChild(task.spec)) book_->ExpectChild(task.model, task.spec.version);
    LoadContext context{settings_,
                        spawn_,
                        clock_,
                        book_->Get(task.model, task.spec.version),
                        [this](const Slots::Task& for_task, int64_t bytes) { return Reserve(for_task, bytes); },
                        [this](int64_t bytes) { return Fits(bytes); },
                        &plane_};
    LoadResult result = LoadVersion(task, context);
    VersionStatus status;
    Update([&] { status = slots_.Finish(task, std::move(result)); });
    if (events_.on_loaded) events_.on_loaded(status);
  }

  bool Fits(int64_t bytes) const {
    const int64_t limit = MemoryLimit();
    std::lock_guard lock(mutex_);
    for (const MemoryUser& user : slots_.InMemory()) bytes += user.status.memory_bytes;
    return limit == 0 || bytes <= limit;
  }

  // Makes room for a load, by unloading lazy versions that are idle.
  absl::Status Reserve(const Slots::Task& task, int64_t bytes) {
    const int64_t limit = MemoryLimit();
    const int64_t give_up = clock_->MonotonicNanos() + kUnloadWaitNanos;
    while (true) {
      const uint32_t seen = waker_->Read();
      UnloadReleased();
      std::vector<MemoryUser> users;
      bool draining = false;
      {
        std::lock_guard lock(mutex_);
        users = slots_.InMemory();
        draining = slots_.HasDraining();
      }
      absl::Status fits = CheckMemory(task.model, task.spec.version, bytes, limit, users);
      if (fits.ok()) return fits;
      const std::vector<size_t> victims = ChooseEvictions(bytes, limit, users);
      if (!victims.empty()) {
        Evict(users, victims);
        continue;
      }
      const int64_t left = give_up - clock_->MonotonicNanos();
      if (!draining || left <= 0) return fits;
      waker_->Wait(seen, left);
    }
  }

  // The versions are destroyed here, on the loader's thread and without the lock.
  void UnloadReleased() {
    std::vector<Draining> released;
    {
      std::lock_guard lock(mutex_);
      released = slots_.TakeReleased();
    }
    if (released.empty()) return;
    released.clear();
    Update([] {});
  }

  const ServingSettings settings_;
  std::atomic<int64_t> allowed_memory_bytes_{0};
  const engine::SpawnFunction spawn_;
  Clock* const clock_;
  const LoadEvents events_;
  const std::shared_ptr<MetricsBook> book_;
  const std::shared_ptr<Waker> waker_ = std::make_shared<Waker>();

  DataPlane plane_;
  ShadowRunner shadows_;
  RouterMaker routers_;  // guarded by mutex_
  // Readers wait for nobody; replaced with mutex_ held.
  Published<Table> table_;
  ParkingLot lot_;

  mutable std::mutex mutex_;         // the control plane's; Find does not take it
  std::condition_variable changed_;  // a version changed its state
  Slots slots_;                      // guarded by mutex_
  bool stopping_ = false;            // guarded by mutex_

  std::thread loader_, adjuster_;
};

}  // namespace

std::string_view StateName(VersionState state) {
  switch (state) {
    case VersionState::kLoading:
      return "LOADING";
    case VersionState::kReady:
      return "READY";
    case VersionState::kUnloading:
      return "UNLOADING";
    case VersionState::kFailed:
      return "FAILED";
    case VersionState::kUnloaded:
      return "UNAVAILABLE";
  }
  return "";
}

std::unique_ptr<Serving> Serving::Create(const ServingSettings& settings, engine::SpawnFunction spawn, Metrics* metrics,
                                         Clock* clock, LoadEvents events) {
  ServingSettings checked = settings;
  checked.instances = std::clamp(settings.instances, 1, InstancePool::kMax);
  auto book = std::make_shared<MetricsBook>();
  metrics->AddSource([book](std::vector<MetricFamily>* families) { book->Export(families); });
  return std::make_unique<LoadingServing>(checked, std::move(spawn), metrics, clock, std::move(events),
                                          std::move(book));
}

}  // namespace tandem::serving
