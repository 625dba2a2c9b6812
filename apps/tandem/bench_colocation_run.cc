// Runs `tandem bench colocation`: daemons, jobs and loads in turns.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/status.h"
#include "base/text.h"
#include "tandem/bench_colocation.h"
#include "tandem/bench_statistics.h"
#include "tandem/bench_training.h"
#include "tandem/external_data.h"
#include "tandem/load_client.h"
#include "tandem/load_protocol.h"
#include "tandem/private_daemon.h"
#include "tandem/programs.h"
#include "tandem/session.h"
#include "tandem/synthetic_images.h"
#include "tandem/temporary_folder.h"
#include "tandem/terminal.h"
#include "tandem/warm_cpus.h"

namespace tandem::cli {
namespace {

constexpr char kModel[] = "served", kDataset[] = "colocation";
constexpr int kTries = 4;  // of a window, while the host steals CPU time
constexpr int kBytesSteps = 60;
constexpr double kBytesLoad = 0.25;  // of the capacity
constexpr double kBytesLoadSeconds = 600;
constexpr int64_t kAnswerNanos = 120'000'000'000;
constexpr int64_t kNapNanos = 50'000'000;

int64_t Now() { return Clock::Real()->MonotonicNanos(); }

absl::Status NotInterrupted() {
  if (Interrupts() > 0) return Cancelled("interrupted before the first round was whole; nothing was kept");
  return absl::OkStatus();
}

// Sleeps until then, and looks for Ctrl-C meanwhile.
absl::Status SleepUntil(int64_t nanos) {
  while (Now() < nanos) {
    TANDEM_RETURN_IF_ERROR(NotInterrupted());
    const int64_t next = std::min(nanos, Now() + kNapNanos);
    timespec when{.tv_sec = next / 1'000'000'000, .tv_nsec = next % 1'000'000'000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, nullptr);
  }
  return absl::OkStatus();
}

absl::Status RunTool(const std::vector<std::string>& arguments) {
  TANDEM_ASSIGN_OR_RETURN(ProgramResult done, RunProgram("tandem-engine-host", arguments));
  return done.exit_code == 0 ? absl::OkStatus() : InvalidArgument(ErrorText(done));
}

class Colocation {
 public:
  Colocation(const ColocationOptions& options, const std::function<void(std::string_view)>& say, TemporaryFolder folder)
      : say_(say), folder_(std::move(folder)) {
    result_.options = options;
    result_.host = ReadHostFacts();
  }

  absl::StatusOr<ColocationResult> Run() {
    const int64_t began = Now();
    TANDEM_RETURN_IF_ERROR(Prepare());
    TANDEM_RETURN_IF_ERROR(RunRounds());
    if (result_.options.check_bytes && !result_.interrupted) TANDEM_RETURN_IF_ERROR(CheckBytes());
    result_.seconds = static_cast<double>(Now() - began) * 1e-9;
    return std::move(result_);
  }

 private:
  // --- before the rounds: data, model, capacity ---

  absl::Status Prepare() {
    say_("preparing the model and the data");
    TANDEM_ASSIGN_OR_RETURN(std::string model, ModelFile());
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<PrivateDaemon> daemon, StartDaemon(*FindColocationMode("alone")));
    wire::AddDatasetRequest dataset;
    dataset.mutable_dataset()->set_name(kDataset);
    TANDEM_ASSIGN_OR_RETURN(*dataset.mutable_dataset()->mutable_path(), DatasetPath());
    TANDEM_RETURN_IF_ERROR(daemon->client().datasets().Add(dataset).status());
    TANDEM_RETURN_IF_ERROR(daemon->client().models().Import(kModel, model, model).status());
    wire::DeployRequest deploy;
    deploy.set_model(kModel);
    TANDEM_RETURN_IF_ERROR(daemon->client().models().Deploy(deploy).status());
    TANDEM_ASSIGN_OR_RETURN(auto metadata, daemon->client().inference().Describe(kModel, ""));
    TANDEM_ASSIGN_OR_RETURN(inputs_, MadeUpInputs(metadata.inputs, result_.options.seed));
    TANDEM_RETURN_IF_ERROR(AwaitAnswer(*daemon));
    for (const Tensor& input : inputs_) {
      StrAppend(&result_.model, result_.model.empty() ? "" : ", ", input.name, " ", ToString(input.shape));
    }
    result_.model = StrCat(result_.options.model.empty() ? "resnet8" : result_.options.model, " (", result_.model, ")");
    return MeasureCapacity(*daemon);
  }

  absl::StatusOr<std::string> ModelFile() {
    const std::string& given = result_.options.model;
    std::string file = folder_.path() + "/model.onnx";
    if (given.empty()) {
      TANDEM_RETURN_IF_ERROR(
          RunTool({"model", "new", "--arch", "resnet8", "--input", "1x28x28", "--classes", "10", "--out", file}));
      return file;
    }
    TANDEM_ASSIGN_OR_RETURN(bool external, HasExternalData(given));
    if (!external) return given;
    TANDEM_RETURN_IF_ERROR(RunTool({"model", "join", given, "--out", file}));
    return file;
  }

  absl::StatusOr<std::string> DatasetPath() {
    if (!result_.options.dataset.empty()) {
      std::error_code error;
      std::string path = std::filesystem::canonical(result_.options.dataset, error).string();
      if (error) return NotFound("'", result_.options.dataset, "': ", error.message());
      return path;
    }
    std::string path = folder_.path() + "/images";
    TANDEM_RETURN_IF_ERROR(WriteSyntheticImages(path, {.train = 6000, .val = 1000, .test = 200}));
    return path;
  }

  absl::Status MeasureCapacity(const PrivateDaemon& daemon) {
    LoadSettings load = BaseLoad(daemon);
    load.seconds = result_.options.amount.capacity_s;
    for (int i = 0; i < 3; ++i) {
      TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<LoadClient> client, LoadClient::Start(load));
      TANDEM_RETURN_IF_ERROR(SleepUntil(client->end_nanos()));
      LoadResult found = client->Finish();
      if (found.failures > 0 || found.latencies_ms.empty()) {
        return Internal(found.failures, " of ", found.sent,
                        " requests failed while the capacity was measured: ", found.first_error);
      }
      result_.client_realtime = found.realtime;
      result_.capacities.push_back(static_cast<double>(found.latencies_ms.size()) / found.seconds);
    }
    result_.capacity = Median(result_.capacities);
    return absl::OkStatus();
  }

  // --- daemons and loads ---

  absl::StatusOr<std::unique_ptr<PrivateDaemon>> StartDaemon(const ColocationMode& mode) {
    TANDEM_RETURN_IF_ERROR(NotInterrupted());
    // An engine is named: or all would be measured beside the first windows.
    std::vector<std::string> settings = {StrCat("training.max_jobs=", std::max(1, mode.jobs)),
                                         "serving.engine=openvino"};
    const std::string rung = mode.isolated ? result_.options.rung : "off";
    if (rung != "auto") settings.push_back("isolation.rung=" + rung);
    return PrivateDaemon::Start(folder_.path(), settings);
  }

  // A daemon that has just started loads the model in the background.
  absl::Status AwaitAnswer(PrivateDaemon& daemon) {
    const int64_t deadline = Now() + kAnswerNanos;
    while (true) {
      absl::Status status = daemon.client().inference().Infer(kModel, "", inputs_).status();
      if (status.ok() || !absl::IsUnavailable(status) || Now() > deadline) return status;
      TANDEM_RETURN_IF_ERROR(SleepUntil(Now() + kNapNanos));
    }
  }

  LoadSettings BaseLoad(const PrivateDaemon& daemon) const {
    int threads = result_.options.client_threads;
    return {.address = daemon.address(),
            .request = InferRequest(daemon.address(), kModel, inputs_),
            .connections = result_.options.connections,
            .threads = threads > 0 ? threads : std::max(1, result_.host.cpus / 4),
            .fifo_priority = result_.options.client_priority};
  }

  // --- the rounds ---

  absl::Status RunRounds() {
    const ColocationAmount& amount = result_.options.amount;
    const int64_t began = Now();
    double estimate = EstimateSeconds(result_.options, result_.capacity);
    say_(absl::StrFormat("capacity %.0f requests/s; %d rounds of %d modes at %d loads: about %s", result_.capacity,
                         amount.rounds, result_.options.modes.size(), result_.options.loads.size(),
                         HumanSeconds(estimate)));
    for (int round = 0; round < amount.rounds; ++round) {
      double spent = static_cast<double>(Now() - began) * 1e-9;
      double next = round > 0 ? spent / round : 0;
      if (amount.max_minutes > 0 && round > 0 && spent + next > amount.max_minutes * 60) {
        say_(absl::StrFormat("stopping after %d of %d rounds: --max-minutes %g", round, amount.rounds,
                             amount.max_minutes));
        break;
      }
      const auto& modes = result_.options.modes;
      for (size_t i = 0; i < modes.size(); ++i) {
        absl::Status done = RunMode(*modes[(i + round) % modes.size()], round);
        if (absl::IsCancelled(done) && round > 0) return KeepWholeRounds();
        TANDEM_RETURN_IF_ERROR(done);
      }
      ++result_.rounds_done;
    }
    return absl::OkStatus();
  }

  // An interrupt: half an hour of whole rounds is not thrown away for the one that was begun.
  absl::Status KeepWholeRounds() {
    say_(absl::StrFormat("interrupted: what %d whole rounds gave", result_.rounds_done));
    result_.interrupted = true;
    std::erase_if(result_.windows, [&](const ColocationWindow& window) { return window.round >= result_.rounds_done; });
    return absl::OkStatus();
  }

  absl::Status RunMode(const ColocationMode& mode, int round) {
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<PrivateDaemon> daemon, StartDaemon(mode));
    TANDEM_RETURN_IF_ERROR(AwaitAnswer(*daemon));
    int threads = mode.jobs > 1 ? std::max(1, result_.host.cpus / mode.jobs) : 0;
    TANDEM_ASSIGN_OR_RETURN(Jobs jobs, StartJobs(*daemon, mode.jobs, threads));
    std::unique_ptr<WarmCpus> warm;
    if (mode.warm) {
      TANDEM_ASSIGN_OR_RETURN(warm, WarmCpus::Start());
    }
    const std::vector<double>& loads = result_.options.loads;
    for (size_t i = 0; i < loads.size(); ++i) {
      const size_t at = (i + round) % loads.size();
      TANDEM_RETURN_IF_ERROR(RunWindow(*daemon, mode, jobs, round, loads[at], static_cast<int>(at)));
    }
    warm.reset();
    TANDEM_ASSIGN_OR_RETURN(wire::Status status, daemon->client().admin().Status());
    result_.modes[std::string(mode.name)] = {status.rung(), status.isolation(), daemon->MetricLines("run_delay")};
    return CancelJobs(daemon->client(), jobs.numbers);
  }

  struct Jobs {
    std::vector<int32_t> numbers;
    std::vector<pid_t> pids;
  };
  absl::StatusOr<Jobs> StartJobs(PrivateDaemon& daemon, int count, int threads) {
    Jobs jobs;
    TANDEM_ASSIGN_OR_RETURN(jobs.numbers, StartEndlessJobs(daemon.client(), kDataset, count, threads));
    TANDEM_ASSIGN_OR_RETURN(jobs.pids, AwaitSteady(daemon.client(), jobs.numbers));
    return jobs;
  }

  // Measures one window, again while the host took CPU time away.
  absl::Status RunWindow(PrivateDaemon& daemon, const ColocationMode& mode, const Jobs& jobs, int round, double load,
                         int load_index) {
    LoadSettings settings = BaseLoad(daemon);
    settings.rate = result_.capacity * load;
    settings.requests = WindowRequests(result_.options.amount, settings.rate);
    settings.seed = result_.options.seed * 1'000'003 + static_cast<uint64_t>(round) * 101 + load_index;
    for (int attempt = 0; attempt < kTries; ++attempt) {
      TANDEM_ASSIGN_OR_RETURN(ColocationWindow window, MeasureWindow(daemon, jobs, settings));
      if (window.host.steal > kMostSteal) {
        ++result_.rejected;
        continue;
      }
      window.mode = mode.name;
      window.load = load;
      window.round = round;
      Describe(window);
      result_.windows.push_back(std::move(window));
      return absl::OkStatus();
    }
    --result_.rejected;  // the last one was not done again
    ++result_.lost;
    say_(absl::StrFormat("round %d %s %g %%: lost, more than %g %% of the CPU time was stolen %d times", round + 1,
                         mode.name, load * 100, kMostSteal * 100, kTries));
    return absl::OkStatus();
  }

  absl::StatusOr<ColocationWindow> MeasureWindow(PrivateDaemon& daemon, const Jobs& jobs,
                                                 const LoadSettings& settings) {
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<LoadClient> load, LoadClient::Start(settings));
    TANDEM_RETURN_IF_ERROR(SleepUntil(load->begin_nanos()));
    TANDEM_ASSIGN_OR_RETURN(HostReading before, ReadHost(daemon.pid(), jobs.pids));
    std::vector<std::unique_ptr<StepWatch>> watches;
    for (int32_t job : jobs.numbers) watches.push_back(std::make_unique<StepWatch>(daemon.address(), job));
    TANDEM_RETURN_IF_ERROR(SleepUntil(load->end_nanos()));
    TANDEM_ASSIGN_OR_RETURN(HostReading after, ReadHost(daemon.pid(), jobs.pids));
    LoadResult found = load->Finish();
    ColocationWindow window;
    window.host = Between(before, after, !jobs.pids.empty());
    for (auto& watch : watches) {
      double images = watch->ImagesPerSecond();
      if (images >= 0) window.images_per_s = std::max(0.0, window.images_per_s) + images;
    }
    window.sent = found.sent;
    window.failures = found.failures;
    window.waited = found.waited;
    window.offered_per_s = settings.rate;
    window.answered_per_s = static_cast<double>(found.latencies_ms.size()) / found.seconds;
    window.p50_ms = Quantile(found.latencies_ms, 0.5);
    window.p99_ms = Quantile(found.latencies_ms, 0.99);
    window.p999_ms = Quantile(found.latencies_ms, 0.999);
    window.max_ms = Quantile(found.latencies_ms, 1);
    window.delay_p50_us = Quantile(found.delays_us, 0.5);
    window.delay_p99_us = Quantile(found.delays_us, 0.99);
    window.client = found.client_cpu_s / ((found.seconds + settings.lead_in_s) * result_.host.cpus);
    window.latencies_ms = std::move(found.latencies_ms);
    return window;
  }

  void Describe(const ColocationWindow& window) {
    std::string text = absl::StrFormat("round %d %-12s %3g %%: p50 %.3f p99 %.3f p99.9 %.3f ms", window.round + 1,
                                       window.mode, window.load * 100, window.p50_ms, window.p99_ms, window.p999_ms);
    if (window.failures > 0) absl::StrAppendFormat(&text, ", %d failed", window.failures);
    if (window.host.conservation >= 0) {
      absl::StrAppendFormat(&text, ", conservation %.3f, ", window.host.conservation);
      text += window.images_per_s < 0 ? "too few steps to tell images/s" : Thousands(window.images_per_s) + " images/s";
    }
    say_(text);
  }

  // --- every byte equal? ---

  absl::Status CheckBytes() {
    say_(StrCat("training ", kBytesSteps, " steps alone, and again beside a load"));
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<PrivateDaemon> daemon, StartDaemon(*FindColocationMode("tandem")));
    TANDEM_RETURN_IF_ERROR(AwaitAnswer(*daemon));
    auto train = [&](std::string_view name) {
      return RunShortJob(daemon->client(), kDataset, kBytesSteps, StrCat(folder_.path(), "/", name, ".onnx"));
    };
    TANDEM_ASSIGN_OR_RETURN(ShortJobEnd alone, train("alone"));
    LoadSettings settings = BaseLoad(*daemon);
    settings.rate = result_.capacity * kBytesLoad;
    settings.requests = static_cast<int64_t>(settings.rate * kBytesLoadSeconds);
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<LoadClient> load, LoadClient::Start(settings));
    TANDEM_ASSIGN_OR_RETURN(ShortJobEnd beside, train("beside"));
    load->Stop();
    result_.bytes = {.done = true,
                     .steps = kBytesSteps,
                     .alone_sha256 = alone.sha256,
                     .beside_sha256 = beside.sha256,
                     .alone_loss_bits = alone.loss_bits,
                     .beside_loss_bits = beside.loss_bits,
                     .alone_s = alone.seconds,
                     .beside_s = beside.seconds};
    return absl::OkStatus();
  }

  const std::function<void(std::string_view)>& say_;
  TemporaryFolder folder_;  // goes last
  std::vector<Tensor> inputs_;
  ColocationResult result_;
};

}  // namespace

absl::StatusOr<ColocationResult> RunColocation(const ColocationOptions& options,
                                               const std::function<void(std::string_view)>& say) {
  TANDEM_ASSIGN_OR_RETURN(TemporaryFolder folder, TemporaryFolder::Create());
  return Colocation(options, say, std::move(folder)).Run();
}

}  // namespace tandem::cli
