#include "tandem/bench_training.h"

#include <bit>
#include <chrono>

#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/status.h"

namespace tandem::cli {
namespace {

constexpr int kFirstSteps = 3;  // until then memory is touched and kernels are chosen
constexpr int64_t kSteadyNanos = 180'000'000'000, kCancelNanos = 60'000'000'000;
constexpr double kWatchSeconds = 0.3;
constexpr char kShortJobModel[] = "colocation-bytes";

int64_t Now() { return Clock::Real()->MonotonicNanos(); }

std::string SpecText(std::string_view name, const std::string& dataset, int64_t steps, int threads) {
  std::string text =
      StrCat("name: ", name, "\nmodel: {architecture: resnet8}\ndataset: ", dataset, "\nsteps: ", steps,
             "\nbatch: ", kBenchBatch, "\noptimizer: {name: sgd, lr: 0.01}\nschedule: {name: constant}\n", "seed: 1\n");
  if (threads > 0) StrAppend(&text, "resources: {threads: ", threads, "}\n");
  return text;
}

absl::StatusOr<wire::Job> Submit(client::Client& client, std::string spec) {
  wire::SubmitJobRequest request;
  request.set_spec(std::move(spec));
  request.set_source("tandem bench colocation");
  return client.jobs().Submit(request);
}

absl::Status EndedEarly(const wire::Job& job) {
  return Internal("training job ", job.job(), " ended as ", job.state(), ": ", job.reason());
}

// Watches the job until `enough` says so, at most until `deadline`.
template <typename Enough>
absl::StatusOr<wire::Job> WatchUntil(client::Client& client, int32_t job, int64_t deadline, Enough enough) {
  int64_t seen = 0;
  while (true) {
    TANDEM_ASSIGN_OR_RETURN(client::Jobs::Change change, client.jobs().Watch(job, seen, kWatchSeconds));
    seen = change.number;
    if (enough(change.job)) return std::move(change.job);
    if (Now() > deadline) {
      return DeadlineExceeded("training job ", job, " is still ", change.job.state(), " at step ",
                              change.job.progress().step(), change.job.reason().empty() ? "" : ": ",
                              change.job.reason(), "; does something else take the CPU? (top)");
    }
  }
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> StartEndlessJobs(client::Client& client, const std::string& dataset, int count,
                                                      int threads) {
  std::vector<int32_t> jobs;
  for (int i = 0; i < count; ++i) {
    TANDEM_ASSIGN_OR_RETURN(wire::Job job,
                            Submit(client, SpecText(StrCat("colocation-", i + 1), dataset, 100'000'000, threads)));
    jobs.push_back(job.job());
  }
  return jobs;
}

absl::StatusOr<std::vector<pid_t>> AwaitSteady(client::Client& client, const std::vector<int32_t>& jobs) {
  const int64_t deadline = Now() + kSteadyNanos;
  std::vector<pid_t> pids;
  for (int32_t number : jobs) {
    TANDEM_ASSIGN_OR_RETURN(wire::Job job, WatchUntil(client, number, deadline, [](const wire::Job& now) {
                              bool steady = now.progress().step() >= kFirstSteps && now.progress().images_per_s() > 0;
                              return client::IsOver(now) || (now.state() == "running" && steady);
                            }));
    if (client::IsOver(job)) return EndedEarly(job);
    pids.push_back(job.pid());
  }
  return pids;
}

absl::Status CancelJobs(client::Client& client, const std::vector<int32_t>& jobs) {
  for (int32_t job : jobs) TANDEM_RETURN_IF_ERROR(client.jobs().Cancel(job));
  const int64_t deadline = Now() + kCancelNanos;
  for (int32_t job : jobs) {
    TANDEM_RETURN_IF_ERROR(
        WatchUntil(client, job, deadline, [](const wire::Job& now) { return client::IsOver(now); }).status());
    TANDEM_RETURN_IF_ERROR(client.jobs().Delete(job));
  }
  return absl::OkStatus();
}

absl::StatusOr<ShortJobEnd> RunShortJob(client::Client& client, const std::string& dataset, int steps,
                                        const std::string& file) {
  std::string spec = SpecText("colocation-bytes", dataset, steps, 0);
  StrAppend(&spec, "register: {model: ", kShortJobModel, "}\n");
  TANDEM_ASSIGN_OR_RETURN(wire::Job job, Submit(client, std::move(spec)));
  TANDEM_ASSIGN_OR_RETURN(job, client.jobs().Follow(job.job(), [](const wire::Job&) { return true; }));
  if (job.state() != "succeeded") return EndedEarly(job);
  TANDEM_RETURN_IF_ERROR(client.models().Export(job.model(), "", job.version(), file).status());
  ShortJobEnd end;
  TANDEM_ASSIGN_OR_RETURN(end.sha256, Sha256HexOfFile(file));
  auto loss = job.metrics().find("loss");
  if (loss != job.metrics().end()) end.loss_bits = absl::StrFormat("%016x", std::bit_cast<uint64_t>(loss->second));
  end.seconds = (job.finished_ms() - job.started_ms()) / 1e3;
  return end;
}

StepWatch::StepWatch(const std::string& address, int32_t job) : thread_([=, this] { Run(address, job); }) {}

StepWatch::~StepWatch() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

void StepWatch::Run(const std::string& address, int32_t job) {
  auto client =
      client::Client::Create({.url = "http://" + address, .token = "", .interrupted = [this] { return stop_.load(); }});
  if (!client.ok()) return;
  int64_t seen = 0;
  int known = -1;
  while (!stop_) {
    auto change = (*client)->jobs().Watch(job, seen, kWatchSeconds);
    if (!change.ok()) return;
    seen = change->number;
    const int step = change->job.progress().step();
    if (step == known) continue;
    // The first answer comes at once, whenever its report was made: it only tells where the job is.
    if (known >= 0 && first_step_ < 0) {
      first_step_ = step;
      first_nanos_ = Now();
    }
    known = last_step_ = step;
    last_nanos_ = Now();
  }
}

double StepWatch::ImagesPerSecond() {
  stop_ = true;
  thread_.join();
  if (first_step_ < 0 || last_step_ <= first_step_) return -1;
  return (last_step_ - first_step_) * double{kBenchBatch} / (static_cast<double>(last_nanos_ - first_nanos_) * 1e-9);
}

}  // namespace tandem::cli
