#include "daemon/housekeeper.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <tuple>

#include "base/background_class.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

constexpr auto kRound = std::chrono::seconds(10);
constexpr int kAreaRounds = 6;  // the areas are measured every so many rounds
constexpr double kAlmostFull = 0.9;

double OwnCpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double OwnMemoryBytes() {
  long pages = 0, resident = 0;
  std::string text = ReadFile("/proc/self/statm", 256).value_or("");
  if (sscanf(text.c_str(), "%ld %ld", &pages, &resident) != 2) return 0;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

// One entry for each name: what waits for room on the disk does not grow with the time.
std::vector<accounting::Entry> AddedUp(std::vector<accounting::Entry> entries) {
  std::map<std::tuple<std::string, std::string, std::string>, accounting::Entry> sums;
  for (accounting::Entry& entry : entries) {
    auto key = std::make_tuple(entry.side, entry.kind, entry.name);
    auto [sum, first] = sums.try_emplace(std::move(key), entry);
    if (first) continue;
    accounting::Amount& amount = sum->second.amount;
    amount.cpu_seconds += entry.amount.cpu_seconds;
    amount.memory_byte_seconds += entry.amount.memory_byte_seconds;
    amount.disk_read_bytes += entry.amount.disk_read_bytes;
    amount.disk_written_bytes += entry.amount.disk_written_bytes;
    amount.requests += entry.amount.requests;
  }
  entries.clear();
  for (auto& [key, sum] : sums) entries.push_back(std::move(sum));
  return entries;
}

double Seconds(uint64_t nanos) { return static_cast<double>(nanos) / 1e9; }

double Grown(int64_t now, int64_t before) {
  return now < 0 || before < 0 ? 0 : static_cast<double>(std::max<int64_t>(0, now - before));
}

}  // namespace

Housekeeper::Housekeeper(const HousekeeperParts& parts, Paths paths)
    : parts_(parts),
      paths_(std::move(paths)),
      accounted_nanos_(parts.clock->MonotonicNanos()),
      server_cpu_seconds_(OwnCpuSeconds()),
      thread_([this] { Loop(); }) {}

Housekeeper::~Housekeeper() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  thread_.join();
  Account();
  absl::Status flushed = parts_.book->Flush();
  if (!flushed.ok()) Log(LogLevel::kWarning, "decisions were not kept", {{"error", MessageOf(flushed)}});
}

void Housekeeper::Loop() {
  pthread_setname_np(pthread_self(), "housekeeper");
  EnterBackgroundClass();
  MeasureRunDelay();
  std::unique_lock lock(mutex_);
  for (int round = 0; !stopping_; ++round) {
    lock.unlock();
    if (round % kAreaRounds == 0) MeasureAreas();
    if (round > 0) Account();
    absl::Status flushed = parts_.book->Flush();
    if (!flushed.ok()) Log(LogLevel::kWarning, "decisions could not be kept yet", {{"error", MessageOf(flushed)}});
    lock.lock();
    wake_.wait_for(lock, kRound, [&] { return stopping_; });
  }
}

// The rung that the ladder found is a promise; this is what it is worth here.
void Housekeeper::MeasureRunDelay() {
  constexpr int kMillis = 100;
  absl::StatusOr<isolation::RunDelay> delay = parts_.isolation->MeasureRunDelay(kMillis);
  if (!delay.ok())
    return Log(LogLevel::kWarning, "the run delay could not be measured", {{"error", MessageOf(delay.status())}});
  Log(LogLevel::kInfo, "run delay of a request thread beside busy children",
      {{"rung", isolation::RungName(parts_.isolation->capabilities().rung)},
       {"p50_us", delay->p50_us},
       {"p99_us", delay->p99_us},
       {"max_us", delay->max_us},
       {"samples", delay->samples}});
  std::lock_guard lock(mutex_);
  run_delay_ = *delay;
}

std::optional<isolation::RunDelay> Housekeeper::MeasuredRunDelay() const {
  std::lock_guard lock(mutex_);
  return run_delay_;
}

void Housekeeper::MeasureAreas() {
  const AreaUse use = {.serving_bytes = BytesBelow(paths_.artifacts()),
                       .training_bytes = BytesBelow(paths_.checkpoints()) + BytesBelow(paths_.datasets())};
  std::lock_guard lock(mutex_);
  area_use_ = use;
}

std::vector<DiskArea> Housekeeper::Areas() const {
  const spec::SplitSpec split = parts_.governor->rules()->spec.split;
  std::lock_guard lock(mutex_);
  if (!area_use_) return {};
  return {{"serving", paths_.serving, area_use_->serving_bytes, split.serving.disk_area_bytes},
          {"training", paths_.training, area_use_->training_bytes, split.training.disk_area_bytes}};
}

absl::Status Housekeeper::CheckArea(std::string_view side) const {
  for (const DiskArea& area : Areas()) {
    if (area.side != side || area.limit_bytes == 0 || area.used_bytes < area.limit_bytes) continue;
    return ResourceExhausted("the disk area of ", side, " is full: ", HumanBytes(area.used_bytes), " of ",
                             HumanBytes(area.limit_bytes), " (", side, ".disk_area); delete ",
                             side == "serving" ? "models" : "jobs or data sets", ", run 'tandem gc', or raise it");
  }
  return absl::OkStatus();
}

std::vector<std::string> Housekeeper::Warnings() const {
  std::vector<std::string> warnings;
  for (const DiskArea& area : Areas()) {
    if (area.limit_bytes == 0 ||
        static_cast<double>(area.used_bytes) < kAlmostFull * static_cast<double>(area.limit_bytes))
      continue;
    warnings.push_back(StrCat("the disk area of ", area.side, " is almost full: ", HumanBytes(area.used_bytes), " of ",
                              HumanBytes(area.limit_bytes)));
  }
  constexpr uintmax_t kLeft = 1'000'000'000;
  for (const auto& [what, folder] : paths_.Roots()) {
    std::error_code error;
    fs::space_info space = fs::space(folder, error);
    if (error || space.available >= kLeft) continue;
    warnings.push_back(StrCat("the disk of ", what, " ('", folder.string(), "') has ",
                              HumanBytes(static_cast<int64_t>(space.available)), " left"));
  }
  return warnings;
}

void Housekeeper::Account() {
  std::lock_guard lock(account_mutex_);
  const int64_t now = parts_.clock->MonotonicNanos();
  std::vector<accounting::Entry> entries = Collect(static_cast<double>(now - accounted_nanos_) / 1e9);
  accounted_nanos_ = now;
  entries.insert(entries.end(), unwritten_.begin(), unwritten_.end());
  absl::Status added = parts_.accounting->Add(parts_.clock->UnixMillis(), entries);
  unwritten_.clear();
  if (added.ok()) return;
  Log(LogLevel::kWarning, "usage could not be kept yet", {{"error", MessageOf(added)}});
  unwritten_ = AddedUp(std::move(entries));
}

std::vector<accounting::Entry> Housekeeper::Collect(double elapsed_s) {
  std::vector<accounting::Entry> entries;
  CollectJobs(elapsed_s, &entries);
  // Models that run within this process have rows of their own: the server's is the rest, so that a sum counts nothing
  // twice.
  const double cpu = OwnCpuSeconds();
  const accounting::Amount models = CollectModels(elapsed_s, std::max(0.0, cpu - server_cpu_seconds_), &entries);
  entries.push_back(
      {.side = "serving",
       .kind = "server",
       .name = "tandemd",
       .amount = {.cpu_seconds = std::max(0.0, cpu - server_cpu_seconds_ - models.cpu_seconds),
                  .memory_byte_seconds = std::max(0.0, OwnMemoryBytes() * elapsed_s - models.memory_byte_seconds)}});
  server_cpu_seconds_ = cpu;
  return entries;
}

void Housekeeper::CollectJobs(double elapsed_s, std::vector<accounting::Entry>* entries) {
  // Those that ended since are in it with their last figures.
  for (const auto& [job, reading] : parts_.loop->TakeUsage()) {
    // A new group began at 0, also where what it wrote before this first look is all that it ever writes.
    isolation::Usage& before =
        job_usage_.try_emplace(job, isolation::Usage{.disk_read_bytes = 0, .disk_written_bytes = 0}).first->second;
    absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(job);
    const isolation::Usage& now = reading.usage;
    entries->push_back(
        {.side = "training",
         .kind = "job",
         .name = StrCat(job, " (", record.ok() ? record->name : std::string("deleted"), ")"),
         .amount = {.cpu_seconds = std::max(0.0, now.cpu_seconds - before.cpu_seconds),
                    .memory_byte_seconds = static_cast<double>(std::max<int64_t>(0, now.memory_bytes)) * elapsed_s,
                    .disk_read_bytes = Grown(now.disk_read_bytes, before.disk_read_bytes),
                    .disk_written_bytes = Grown(now.disk_written_bytes, before.disk_written_bytes)}});
    before = now;
    if (reading.ended) job_usage_.erase(job);
  }
}

accounting::Amount Housekeeper::CollectModels(double elapsed_s, double own_cpu_seconds,
                                              std::vector<accounting::Entry>* entries) {
  std::map<std::string, double> memory;
  for (const serving::VersionStatus& status : parts_.serving->States()) {
    if (status.state == serving::VersionState::kReady)
      memory[StrCat(status.model, "/", status.version)] = static_cast<double>(status.memory_bytes);
  }
  accounting::Amount within;
  std::vector<size_t> inside;  // entries of models within this process
  for (serving::VersionUse& now : parts_.serving->Uses()) {
    const std::string name = StrCat(now.model, "/", now.version);
    serving::VersionUse& before = models_[name];
    // The runs of one in a process of its own are seconds of waiting here.
    const double runs = now.in_child ? 0 : Seconds(now.busy_ns - before.busy_ns);
    const double resident = memory[name] * elapsed_s;
    entries->push_back(accounting::ModelEntry(
        now.model, now.version,
        {.cpu_seconds = runs + Seconds(now.child_cpu_ns - before.child_cpu_ns),
         .memory_byte_seconds = resident,
         .disk_read_bytes = static_cast<double>(now.disk_read_bytes - before.disk_read_bytes),
         .disk_written_bytes = static_cast<double>(now.disk_written_bytes - before.disk_written_bytes),
         .requests = static_cast<double>(now.finished - before.finished)}));
    if (!now.in_child) {
      inside.push_back(entries->size() - 1);
      within.cpu_seconds += runs;
      within.memory_byte_seconds += resident;
    }
    before = std::move(now);
  }
  // Runs are timed by the clock: one that waits for a CPU takes longer than what it uses. All of them together used no
  // more than the process did.
  if (within.cpu_seconds > own_cpu_seconds) {
    const double used = own_cpu_seconds / within.cpu_seconds;
    for (size_t i : inside) (*entries)[i].amount.cpu_seconds *= used;
    within.cpu_seconds = own_cpu_seconds;
  }
  return within;
}

}  // namespace tandem::daemon
