#include "daemon/children.h"

#include <signal.h>
#include <sys/wait.h>

#include <future>

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

Children::Children(isolation::Isolation* isolation, fs::path run_folder)
    : isolation_(isolation), run_folder_(std::move(run_folder)), starter_([this] {
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
                                        isolation_->capabilities().rung == isolation::Rung::kRealtime);
}

absl::StatusOr<engine::ChildResult> Children::Run(const std::vector<std::string>& argv, double timeout_s) {
  std::string name = StrCat("helper-", next_.fetch_add(1));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<isolation::ResourceGroup> group, isolation_->CreateGroup(name));
  fs::path output = run_folder_ / (name + ".out");
  // Its end in this process closes when the daemon dies, whatever of: that is how tandem-engine-host learns of it.
  TANDEM_ASSIGN_OR_RETURN(auto sockets, messaging::MakeSocketPair());
  TANDEM_ASSIGN_OR_RETURN(auto child, isolation::ChildProcess::Spawn({.argv = argv,
                                                                      .environment = {"TANDEM_PARENT_SOCKET=3"},
                                                                      .group = group.get(),
                                                                      .socket = sockets.second.get(),
                                                                      .output_file = output.string()}));
  sockets.second.Reset();
  engine::ChildResult result;
  const int64_t deadline = Clock::Real()->MonotonicNanos() + static_cast<int64_t>(timeout_s * 1e9);
  std::optional<int> ended;
  // Short waits, so that a stop of the daemon ends the helper soon.
  while (!(ended = child->Wait(100)) && !aborted_ && Clock::Real()->MonotonicNanos() < deadline) {
  }
  result.timed_out = !ended && !aborted_;
  if (!ended) child->Signal(SIGKILL);
  result.wait_status = ended ? *ended : child->Wait(-1).value_or(0);
  result.stderr_text = ReadFile(output, 1 << 20).value_or("");
  std::error_code error;
  fs::remove(output, error);
  if (aborted_) return Unavailable("the server is stopping");
  return result;
}

absl::Status Children::RunChecked(const std::vector<std::string>& argv, double timeout_s) {
  return RunForOutput(argv, timeout_s).status();
}

absl::StatusOr<std::string> Children::RunForOutput(const std::vector<std::string>& argv, double timeout_s) {
  TANDEM_ASSIGN_OR_RETURN(engine::ChildResult result, Run(argv, timeout_s));
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
