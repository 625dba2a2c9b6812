#include "tandem/private_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "tandem/programs.h"
#include "tandem/session.h"

namespace tandem::cli {
namespace {

constexpr int kReadySeconds = 60;
constexpr int kStopMs = 30'000;  // it drains requests and saves jobs
constexpr int kLookMs = 5;

// In the child: nothing but calls that are safe behind fork.
[[noreturn]] void BecomeDaemon(char* const* argv, int log, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(126);  // the parent died meanwhile
  int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execv(argv[0], argv);
  _exit(127);
}

}  // namespace

PrivateDaemon::PrivateDaemon(std::string folder, pid_t pid)
    : folder_(std::move(folder)), pid_(pid), ended_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}

absl::StatusOr<std::unique_ptr<PrivateDaemon>> PrivateDaemon::Start(const std::string& folder,
                                                                    const std::vector<std::string>& settings) {
  TANDEM_ASSIGN_OR_RETURN(std::string program, ProgramPath("tandemd"));
  std::error_code ignored;
  std::filesystem::remove(folder + "/ready.json", ignored);
  std::vector<std::string> arguments = {
      program,       "--data", folder + "/data", "--ready-file", folder + "/ready.json", "--http",
      "127.0.0.1:0", "--grpc", "127.0.0.1:0",    "--metrics",    "127.0.0.1:0"};
  for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const std::string log_file = folder + "/tandemd.log";
  UniqueFd log(open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) return ErrnoStatus(errno, StrCat("open '", log_file, "'"));
  const pid_t self = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "start a process");
  if (pid == 0) BecomeDaemon(argv.data(), log.get(), self);
  setpgid(pid, pid);
  std::unique_ptr<PrivateDaemon> daemon(new PrivateDaemon(folder, pid));
  TANDEM_RETURN_IF_ERROR(daemon->WaitUntilReady());
  return daemon;
}

PrivateDaemon::~PrivateDaemon() {
  kill(pid_, SIGTERM);
  if (!WaitForEnd(kStopMs)) kill(-pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool PrivateDaemon::WaitForEnd(int timeout_ms) {
  const int64_t end = Clock::Real()->MonotonicNanos() + int64_t{timeout_ms} * 1'000'000;
  while (true) {
    auto left = static_cast<int>((end - Clock::Real()->MonotonicNanos()) / 1'000'000);
    pollfd wait{ended_.get(), POLLIN, 0};
    int ready = poll(&wait, 1, std::max(0, left));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

absl::Status PrivateDaemon::WaitUntilReady() {
  const int64_t end = Clock::Real()->MonotonicNanos() + int64_t{kReadySeconds} * 1'000'000'000;
  absl::StatusOr<std::string> text = NotFound("not there yet");
  while (!(text = ReadFile(folder_ + "/ready.json")).ok()) {
    if (Interrupts() > 0) return absl::CancelledError("interrupted");
    if (WaitForEnd(kLookMs)) return Internal("the private daemon ended at once; the end of its log:\n", LogTail());
    if (Clock::Real()->MonotonicNanos() > end) {
      return DeadlineExceeded("the private daemon was not ready within ", kReadySeconds, " s; the end of its log:\n",
                              LogTail());
    }
  }
  nlohmann::json ready = nlohmann::json::parse(*text, nullptr, false);
  if (!ready.is_object() || !ready.contains("http") || !ready["http"].is_string()) {
    return Internal("the ready file of the private daemon has no address: ", *text);
  }
  address_ = ready["http"].get<std::string>();
  client::Endpoint endpoint{.url = "http://" + address_, .token = "", .interrupted = [] { return Interrupts() > 0; }};
  TANDEM_ASSIGN_OR_RETURN(client_, client::Client::Create(std::move(endpoint)));
  return absl::OkStatus();
}

std::string PrivateDaemon::LogTail() const {
  constexpr size_t kTail = 2000;
  std::string text = ReadFile(folder_ + "/tandemd.log").value_or("");
  return text.size() > kTail ? text.substr(text.size() - kTail) : text;
}

std::vector<std::string> PrivateDaemon::MetricLines(std::string_view word) const {
  std::vector<std::string> lines;
  auto transport = client::Transport::Create({.url = "http://" + address_});
  if (!transport.ok()) return lines;
  absl::StatusOr<client::HttpResponse> answer = (*transport)->Call({.target = "/metrics"});
  if (!answer.ok() || answer->code != 200) return lines;
  for (absl::string_view line : absl::StrSplit(answer->body, '\n')) {
    std::string_view name = StdView(line.substr(0, line.find_first_of("{ ")));
    if (!line.empty() && line[0] != '#' && name.find(word) != name.npos) lines.emplace_back(line);
  }
  return lines;
}

}  // namespace tandem::cli
