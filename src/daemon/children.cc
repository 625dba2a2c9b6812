#include "daemon/children.h"

#include <signal.h>
#include <sys/wait.h>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/status.h"
#include "messaging/channel.h"

namespace tandem::daemon {
namespace fs = std::filesystem;

fs::path BesideSelf(std::string_view name) {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error).parent_path() / name;
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
  TANDEM_ASSIGN_OR_RETURN(engine::ChildResult result, Run(argv, timeout_s));
  if (result.timed_out) return DeadlineExceeded("checking took more than ", timeout_s, " s and was stopped");
  if (result.wait_status == 0) return absl::OkStatus();
  absl::string_view text = absl::StripAsciiWhitespace(result.stderr_text);
  absl::ConsumePrefix(&text, "error: ");
  if (!WIFEXITED(result.wait_status)) {
    return InvalidArgument("the checker crashed on this file (", isolation::DescribeExit(result.wait_status),
                           "): ", StdView(text));
  }
  return absl::Status(absl::StatusCode::kInvalidArgument, text);
}

}  // namespace tandem::daemon
