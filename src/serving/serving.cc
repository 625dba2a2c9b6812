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
#include "serving/load.h"
#include "serving/published.h"
#include "serving/slots.h"
#include "serving/table.h"
#include "serving/version_metrics.h"
#include "serving/waker.h"

namespace tandem::serving {
namespace {

constexpr int kMaxInstances = 64;

class LoadingServing : public Serving {
 public:
  LoadingServing(const ServingSettings& settings, engine::SpawnFunction spawn, Clock* clock, LoadEvents events,
                 std::shared_ptr<MetricsBook> book)
      : settings_(settings),
        spawn_(std::move(spawn)),
        clock_(clock),
        events_(std::move(events)),
        book_(std::move(book)),
        slots_(waker_),
        table_(std::make_unique<const Table>()),
        loader_([this] { Loop(); }) {}

  ~LoadingServing() override {
    Update([&] {
      slots_.SetDesired({});
      stopping_ = true;
    });
    loader_.join();
  }

  void SetDesired(std::vector<DesiredModel> models) override {
    Update([&] { slots_.SetDesired(std::move(models)); });
  }

  void SetMemoryLimit(int64_t bytes) override { allowed_memory_bytes_ = bytes; }

  absl::StatusOr<ModelHandle> Find(std::string_view model, std::string_view version_or_alias) const override {
    return table_.Read([&](const Table& table) { return table.Find(model, version_or_alias); });
  }

  std::vector<VersionStatus> States() const override {
    return table_.Read([](const Table& table) {
      std::vector<VersionStatus> states = table.unloading;
      for (const auto& [name, model] : table.models) {
        for (const TableModel::Entry& entry : model.versions) states.push_back(entry.status);
      }
      std::sort(states.begin(), states.end(), [](const VersionStatus& a, const VersionStatus& b) {
        return a.model != b.model ? a.model < b.model : a.version < b.version;
      });
      return states;
    });
  }

  std::vector<int32_t> ReadyVersions(std::string_view model) const override {
    return table_.Read([&](const Table& table) {
      std::vector<int32_t> ready;
      auto found = table.models.find(model);
      if (found == table.models.end()) return ready;
      for (const TableModel::Entry& entry : found->second.versions) {
        if (entry.handle != nullptr) ready.push_back(entry.status.version);
      }
      return ready;
    });
  }

  std::vector<LoadNow> Loads() const override {
    return table_.Read([](const Table& table) {
      std::vector<LoadNow> loads;
      for (const auto& [name, model] : table.models) {
        for (const TableModel::Entry& entry : model.versions) {
          if (entry.handle != nullptr) loads.push_back(entry.handle->ReadLoad());
        }
      }
      return loads;
    });
  }

  absl::Status WaitUntilReady(std::string_view model, int32_t version, double timeout_s) override {
    std::unique_lock lock(mutex_);
    absl::Status result;
    auto decided = [&] {
      const VersionStatus* status = slots_.Find(std::string(model), version);
      if (status == nullptr) {
        result = NotFound("model '", model, "' version ", version, " is not to be served");
      } else if (status->state == VersionState::kFailed) {
        result = FailedPrecondition("model '", model, "' version ", version, " could not be loaded: ", status->reason);
      }
      return status == nullptr || status->state != VersionState::kLoading;
    };
    if (changed_.wait_for(lock, std::chrono::duration<double>(timeout_s), decided)) return result;
    return DeadlineExceeded("model '", model, "' version ", version, " was not ready within ", HumanSeconds(timeout_s));
  }

  bool Settled() const override {
    std::lock_guard lock(mutex_);
    return !slots_.NextTask();
  }

 private:
  // Changes the book under the lock, shows the result to requests, and wakes everybody.
  template <typename Change>
  void Update(Change&& change) {
    std::lock_guard lock(mutex_);
    change();
    table_.Replace(slots_.MakeTable());
    changed_.notify_all();
    waker_->Signal();
  }

  void Loop() {
    EnterBackgroundClass();  // loading must not take the processor from requests
    while (true) {
      uint32_t seen = waker_->Read();
      UnloadReleased();
      std::optional<Slots::Task> task;
      bool done = false;
      {
        std::lock_guard lock(mutex_);
        task = slots_.NextTask();
        done = stopping_ && !slots_.HasDraining();
      }
      if (done) return;
      if (task) {
        Execute(*task);
      } else {
        waker_->Wait(seen);
      }
    }
  }

  void Execute(const Slots::Task& task) {
    if (events_.on_loading) events_.on_loading(task.model, task.spec.version);
    ServingSettings settings = settings_;
    const int64_t allowed = allowed_memory_bytes_;
    if (allowed > 0 && (settings.memory_limit_bytes == 0 || allowed < settings.memory_limit_bytes))
      settings.memory_limit_bytes = allowed;
    LoadContext context{settings, spawn_, clock_, book_->Get(task.model, task.spec.version), {}};
    {
      std::lock_guard lock(mutex_);
      context.in_memory = slots_.InMemory();
    }
    LoadResult result = LoadVersion(task, context);
    VersionStatus status;
    Update([&] { status = slots_.Finish(task, std::move(result)); });
    if (events_.on_loaded) events_.on_loaded(status);
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

  mutable std::mutex mutex_;         // the control plane's; Find does not take it
  std::condition_variable changed_;  // a version changed its state
  Slots slots_;                      // guarded by mutex_
  bool stopping_ = false;            // guarded by mutex_

  Published<Table> table_;  // replaced with mutex_ held
  std::thread loader_;
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
  }
  return "";
}

std::unique_ptr<Serving> Serving::Create(const ServingSettings& settings, engine::SpawnFunction spawn, Metrics* metrics,
                                         Clock* clock, LoadEvents events) {
  ServingSettings checked = settings;
  checked.instances = std::clamp(settings.instances, 1, kMaxInstances);
  auto book = std::make_shared<MetricsBook>();
  metrics->AddSource([book](std::vector<MetricFamily>* families) { book->Export(families); });
  return std::make_unique<LoadingServing>(checked, std::move(spawn), clock, std::move(events), std::move(book));
}

}  // namespace tandem::serving
