#pragma once
// For tests of this module and of serving: the real child, started simply; temporary folders; engines that misbehave.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/status.h"
#include "engine/engine.h"
#include "engine/remote.h"

namespace tandem::engine::testing {

// Removed with all that is in it.
class TempFolder {
 public:
  TempFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "tandem-test-XXXXXX").string();
    path_ = mkdtemp(path.data());
  }
  ~TempFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  // A file with this text.
  std::filesystem::path Write(std::string_view name, std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

// Runs argv to its end, or kills it after timeout_s, and keeps what it wrote to stderr; no lowered priority.
inline absl::StatusOr<ChildResult> Spawn(const std::vector<std::string>& argv, double timeout_s) {
  TempFolder folder;
  std::string errors = (folder / "stderr").string();
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 2, errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t pid = 0;
  int error = posix_spawn(&pid, argv[0].c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoStatus(error, StrCat("start '", argv[0], "'"));
  ChildResult result;
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  pollfd ended = {.fd = pidfd.get(), .events = POLLIN};
  result.timed_out = poll(&ended, 1, static_cast<int>(timeout_s * 1000)) == 0;
  if (result.timed_out) kill(pid, SIGKILL);
  waitpid(pid, &result.wait_status, 0);
  std::ifstream file(errors);
  result.stderr_text.assign(std::istreambuf_iterator<char>(file), {});
  return result;
}

// A long-lived child, of no special class.
class TestService : public Service {
 public:
  explicit TestService(pid_t pid) : pid_(pid), pidfd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}
  ~TestService() override {
    Kill();
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const override { return pid_; }
  int pidfd() const override { return pidfd_.get(); }
  void Kill() override { kill(pid_, SIGKILL); }
  void EnterLatencyClass(pid_t) override {}

 private:
  const pid_t pid_;
  const UniqueFd pidfd_;
};

inline absl::StatusOr<std::unique_ptr<Service>> StartService(const std::vector<std::string>& argv, int socket) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, socket, kServiceSocket);
  pid_t pid = 0;
  int error = posix_spawn(&pid, argv[0].c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoStatus(error, StrCat("start '", argv[0], "'"));
  return std::make_unique<TestService>(pid);
}

// plugins/testing: call before the first OpenEngine.
inline void UseTestEngines(const std::string& bin_dir) {
  setenv("TANDEM_ENGINE_PATH", (bin_dir + "/test_engines").c_str(), 1);
}

// The functions by which a test steers the engine "gate" in its own process.
class Gate {
 public:
  explicit Gate(const std::string& bin_dir)
      : library_(dlopen((bin_dir + "/test_engines/libtandem_engine_gate.so").c_str(), RTLD_NOW | RTLD_LOCAL)) {}
  // Runs wait while held.
  void Hold(bool hold) { Get<void(int)>("test_engine_hold")(hold); }
  void AwaitRunning(int count) { Get<void(int)>("test_engine_await_running")(count); }
  void AwaitModels(int count) { Get<void(int)>("test_engine_await_models")(count); }
  int Models() { return Get<int()>("test_engine_models")(); }

 private:
  template <typename F>
  F* Get(const char* name) {
    return reinterpret_cast<F*>(dlsym(library_, name));
  }
  void* library_;
};

}  // namespace tandem::engine::testing
