#include "daemon/children.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <future>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/status.h"
#include "isolation/scheduling_class.h"
#include "messaging/channel.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

// The place of the daemon itself: nothing to join, no class to lower. Only to spawn into.
class OwnPlace : public isolation::ResourceGroup {
 public:
  const std::string& name() const override { return name_; }
  isolation::Usage ReadUsage() const override { return {}; }
  absl::StatusOr<std::vector<std::string>> SetLimits(const isolation::GroupLimits&) override { return Refuse(); }
  absl::Status Freeze() override { return Refuse(); }
  absl::Status Thaw() override { return Refuse(); }
  std::vector<std::pair<std::string, std::string>> JoinFiles() const override { return {}; }
  absl::Status Kill() override { return Refuse(); }
  std::vector<std::string> LaunchArguments() const override { return {"--keep-class"}; }

 private:
  static absl::Status Refuse() { return Unimplemented("the daemon's own group is not limited"); }
  const std::string name_ = "serving";
};

class ServingChild : public engine::Service {
 public:
  ServingChild(std::unique_ptr<isolation::ChildProcess> child, bool realtime)
      : child_(std::move(child)), realtime_(realtime) {}
  pid_t pid() const override { return child_->pid(); }
  int pidfd() const override { return child_->pidfd(); }
  void Kill() override { child_->Signal(SIGKILL); }
  void EnterLatencyClass(pid_t tid) override {
    if (!realtime_) return;
    absl::Status entered = isolation::EnterRealtime(tid, 1);
    if (entered.ok()) return;
    realtime_ = false;
    Log(LogLevel::kWarning, "an engine's process answers requests at the normal class",
        {{"why", MessageOf(entered)}, {"do", "give tandemd CAP_SYS_NICE"}});
  }

 private:
  const std::unique_ptr<isolation::ChildProcess> child_;
  std::atomic<bool> realtime_;
};

}  // namespace

fs::path BesideSelf(std::string_view name) {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error).parent_path() / name;
}

Children::Children(ChildrenParts parts)
    : parts_(std::move(parts)), starter_([this] {
        while (std::optional<std::function<void()>> order = orders_.Pop()) (*order)();
      }) {}

Children::~Children() {
  orders_.Close();
  starter_.join();
}

absl::StatusOr<std::unique_ptr<engine::Service>> Children::Serve(const std::vector<std::string>& argv, int socket) {
  OwnPlace place;
  // Waiting threads must sleep: an engine's spinning pool takes the CPU that other models need.
  isolation::SpawnOptions options = {
      .argv = argv, .environment = {"OMP_WAIT_POLICY=PASSIVE"}, .group = &place, .socket = socket};
  std::promise<absl::StatusOr<std::unique_ptr<isolation::ChildProcess>>> started;
  // It lives until the future is read, so the order may refer to it.
  if (aborted_ || !orders_.Push([&] { started.set_value(isolation::ChildProcess::Spawn(options)); })) {
    return Unavailable("the server is stopping");
  }
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<isolation::ChildProcess> child, started.get_future().get());
  return std::make_unique<ServingChild>(std::move(child),
                                        parts_.isolation->capabilities().rung == isolation::Rung::kRealtime);
}

void Children::Abort() {
  std::lock_guard lock(disk_mutex_);
  aborted_ = true;
  parts_.serving_pace->SetRate(0);
  parts_.training_pace->SetRate(0);
}

std::vector<std::string> Children::SetServingDisk(const isolation::GroupLimits& limits) {
  // Tried on a group that nobody is in: what holds on this disk is not known before.
  std::vector<std::string> not_enforced;
  if (limits.disk_write_bytes_per_s > 0 || limits.disk_read_bytes_per_s > 0 || limits.disk_iops > 0) {
    auto trial = parts_.isolation->CreateGroup("serving-disk", {}, parts_.models.string());
    auto said = trial.ok() ? (*trial)->SetLimits(limits) : trial.status();
    not_enforced = said.ok() ? *std::move(said) : std::vector{std::string(MessageOf(said.status()))};
  }
  std::lock_guard lock(disk_mutex_);
  serving_disk_ = limits;
  if (!aborted_) parts_.serving_pace->SetRate(static_cast<double>(limits.disk_write_bytes_per_s));
  for (const Helper* helper : serving_) helper->group->SetLimits(limits).IgnoreError();
  TellParts();
  return not_enforced;
}

void Children::SetTrainingRate(double bytes_per_s) {
  std::lock_guard lock(disk_mutex_);
  if (!aborted_) parts_.training_pace->SetRate(bytes_per_s);
}

double Children::RateOf(const Helper& helper) {
  // What is written at a job's start is held by the kernel alone, by the limits of its side's group.
  if (helper.disk == Disk::kTraining) return 0;
  std::lock_guard lock(disk_mutex_);
  return ServingPart();
}

// Even, as the kernel's limits of their groups are.
double Children::ServingPart() const {
  return parts_.serving_pace->bytes_per_s() / static_cast<double>(std::max<size_t>(1, serving_.size()));
}

// One that does not listen (tar) would not keep to it either: what its socket does not take is not missed.
void Children::TellParts() {
  const double rate = ServingPart();
  for (const Helper* helper : serving_) send(helper->socket.get(), &rate, sizeof rate, MSG_DONTWAIT | MSG_NOSIGNAL);
}

absl::Status Children::Begin(const std::string& name, Helper* helper) {
  if (helper->disk == Disk::kTraining) {
    TANDEM_ASSIGN_OR_RETURN(helper->group, parts_.isolation->CreateGroup(name));
    return absl::OkStatus();
  }
  std::lock_guard lock(disk_mutex_);
  TANDEM_ASSIGN_OR_RETURN(helper->group, parts_.isolation->CreateGroup(name, serving_disk_, parts_.models.string()));
  serving_.insert(helper);
  TellParts();
  return absl::OkStatus();
}

void Children::End(const Helper& helper) {
  std::lock_guard lock(disk_mutex_);
  if (serving_.erase(&helper) > 0) TellParts();
}

absl::StatusOr<engine::ChildResult> Children::Run(const std::vector<std::string>& argv, double timeout_s, Disk disk,
                                                  const std::atomic<bool>* stop) {
  // Its end in this process closes when the daemon dies, whatever of: that is how tandem-engine-host learns of it.
  TANDEM_ASSIGN_OR_RETURN(auto sockets, messaging::MakeSocketPair());
  Helper helper{.disk = disk, .socket = std::move(sockets.first), .group = nullptr};
  TANDEM_RETURN_IF_ERROR(Begin(StrCat("helper-", next_.fetch_add(1)), &helper));
  absl::StatusOr<engine::ChildResult> result = RunIn(helper, std::move(sockets.second), argv, timeout_s, stop);
  End(helper);
  return result;
}

absl::StatusOr<engine::ChildResult> Children::RunIn(const Helper& helper, UniqueFd child_socket,
                                                    const std::vector<std::string>& argv, double timeout_s,
                                                    const std::atomic<bool>* stop) {
  fs::path output = parts_.run_folder / (helper.group->name() + ".out");
  TANDEM_ASSIGN_OR_RETURN(auto child,
                          isolation::ChildProcess::Spawn(
                              {.argv = argv,
                               .environment = {"TANDEM_PARENT_SOCKET=3", StrCat("TANDEM_DISK_WRITE=", RateOf(helper))},
                               .group = helper.group.get(),
                               .socket = child_socket.get(),
                               .output_file = output.string()}));
  child_socket.Reset();
  engine::ChildResult result;
  const int64_t begun = Clock::Real()->MonotonicNanos();
  double allowed_s = timeout_s;
  int64_t written = 0;
  auto in_time = [&] {
    // What it wrote at its rate took its time, and is no fault of its own.
    if (const double rate = RateOf(helper); rate > 0) {
      const int64_t before = std::exchange(written, std::max(written, helper.group->ReadUsage().disk_written_bytes));
      allowed_s += static_cast<double>(written - before) / rate;
    }
    return static_cast<double>(Clock::Real()->MonotonicNanos() - begun) / 1e9 < allowed_s;
  };
  std::optional<int> ended;
  const auto told_to_stop = [stop] { return stop != nullptr && *stop; };
  // Short waits, so that a stop ends the helper soon.
  while (!(ended = child->Wait(100)) && !aborted_ && !told_to_stop() && in_time()) {
  }
  const bool stopped = !ended && told_to_stop();
  result.timed_out = !ended && !aborted_ && !stopped;
  if (!ended) child->Signal(SIGKILL);
  result.wait_status = ended ? *ended : child->Wait(-1).value_or(0);
  result.stderr_text = ReadFile(output, 1 << 20).value_or("");
  std::error_code error;
  fs::remove(output, error);
  if (aborted_) return Unavailable("the server is stopping");
  if (stopped) return Cancelled("it was stopped");
  return result;
}

absl::Status Children::RunChecked(const std::vector<std::string>& argv, double timeout_s, Disk disk,
                                  const std::atomic<bool>* stop) {
  return RunForOutput(argv, timeout_s, disk, stop).status();
}

absl::StatusOr<std::string> Children::RunForOutput(const std::vector<std::string>& argv, double timeout_s, Disk disk,
                                                   const std::atomic<bool>* stop) {
  TANDEM_ASSIGN_OR_RETURN(engine::ChildResult result, Run(argv, timeout_s, disk, stop));
  if (result.timed_out) return DeadlineExceeded("checking took more than ", timeout_s, " s and was stopped");
  if (result.wait_status == 0) return std::move(result.stderr_text);
  absl::string_view text = absl::StripAsciiWhitespace(result.stderr_text);
  absl::ConsumePrefix(&text, "error: ");
  if (!WIFEXITED(result.wait_status)) {
    return InvalidArgument("the checker crashed on this file (", isolation::DescribeExit(result.wait_status),
                           "): ", StdView(text));
  }
  return absl::Status(absl::StatusCode::kInvalidArgument, text);
}

}  // namespace tandem::daemon
