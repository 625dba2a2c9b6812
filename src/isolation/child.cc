#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>

#include "base/status.h"
#include "isolation/isolation.h"
#include "isolation/launch.h"

extern char** environ;

namespace tandem::isolation {
namespace {

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// The environment of this process with `added` in place of what has the same name.
std::vector<std::string> MergedEnvironment(const std::vector<std::string>& added) {
  std::vector<std::string> merged = added;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view text = *entry;
    std::string_view name = text.substr(0, text.find('=') + 1);
    bool replaced = false;
    for (const std::string& own : added) replaced = replaced || own.compare(0, name.size(), name) == 0;
    if (!replaced) merged.emplace_back(text);
  }
  return merged;
}

absl::StatusOr<std::vector<std::string>> LaunchArguments(const SpawnOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(std::string launch, FindLaunch());
  std::vector<std::string> arguments = {std::move(launch)};
  if (options.group != nullptr) {
    for (std::string& argument : options.group->LaunchArguments()) arguments.push_back(std::move(argument));
    for (const auto& [file, text] : options.group->JoinFiles()) {
      arguments.push_back(StrCat("--join=", file, "=", text));
    }
  }
  if (!options.output_file.empty()) arguments.push_back("--output=" + options.output_file);
  if (!options.working_folder.empty()) arguments.push_back("--chdir=" + options.working_folder);
  if (options.socket >= 0) arguments.push_back("--keep-socket");
  arguments.push_back("--");
  arguments.insert(arguments.end(), options.argv.begin(), options.argv.end());
  return arguments;
}

class RealChild : public ChildProcess {
 public:
  RealChild(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  ~RealChild() override {
    if (!Wait(0)) {
      Signal(SIGKILL);
      Wait(-1);
    }
  }

  pid_t pid() const override { return pid_; }
  int pidfd() const override { return pidfd_.get(); }

  std::optional<int> Wait(int timeout_ms) override {
    {
      std::lock_guard lock(mutex_);
      if (status_) return status_;
    }
    pollfd poll_fd = {pidfd_.get(), POLLIN, 0};
    int ready = poll(&poll_fd, 1, timeout_ms);
    while (ready < 0 && errno == EINTR) ready = poll(&poll_fd, 1, timeout_ms);
    std::lock_guard lock(mutex_);
    if (status_ || ready <= 0) return status_;
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
    return status_;
  }

  void Signal(int signal) override {
    std::lock_guard lock(mutex_);
    if (status_) return;  // the number may belong to somebody else by now
    // Until tandem-launch has called setsid there is no group of that number.
    if (kill(-pid_, signal) != 0) kill(pid_, signal);
  }

 private:
  const pid_t pid_;
  const UniqueFd pidfd_;
  std::mutex mutex_;
  std::optional<int> status_;  // guarded by mutex_
};

}  // namespace

absl::StatusOr<std::string> FindLaunch() {
  std::error_code error;
  std::filesystem::path launch = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "tandem-launch";
  if (access(launch.c_str(), X_OK) != 0)
    return ErrnoStatus(errno, StrCat("'", launch.string(), "' (it is installed beside tandemd)"));
  return launch.string();
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Spawn(const SpawnOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> arguments, LaunchArguments(options));
  std::vector<std::string> environment = MergedEnvironment(options.environment);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (options.socket >= 0) posix_spawn_file_actions_adddup2(&actions, options.socket, 3);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  pid_t pid = 0;
  int error = posix_spawn(&pid, arguments[0].c_str(), &actions, &attributes, Pointers(arguments).data(),
                          Pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return ErrnoStatus(error, StrCat("start '", arguments[0], "'"));
  if (options.group != nullptr) options.group->Adopt(pid);
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (pidfd.valid()) return std::make_unique<RealChild>(pid, std::move(pidfd));
  error = errno;  // descriptors have run out, say
  kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (error == ENOSYS) return Unimplemented("this kernel has no pidfd_open; tandem needs Linux 5.3 or newer");
  return ErrnoStatus(error, StrCat("watch '", arguments[0], "'"));
}

std::string DescribeExit(int wait_status) {
  if (WIFEXITED(wait_status)) return StrCat("exited with code ", WEXITSTATUS(wait_status));
  if (WIFSIGNALED(wait_status)) {
    const char* name = sigabbrev_np(WTERMSIG(wait_status));
    return StrCat("killed by signal ", WTERMSIG(wait_status), " (SIG", name == nullptr ? "?" : name, ")");
  }
  return StrCat("ended with status ", wait_status);
}

}  // namespace tandem::isolation
