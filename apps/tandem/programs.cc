#include "tandem/programs.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "base/fd.h"
#include "base/status.h"

extern char** environ;

namespace tandem::cli {
namespace {

std::vector<char*> Argv(std::string& path, std::vector<std::string>& arguments) {
  std::vector<char*> argv = {path.data()};
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  return argv;
}

struct Pipe {
  UniqueFd read, write;
};

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return ErrnoStatus(errno, "make a pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// Reads both pipes to their ends.
void Drain(UniqueFd out, UniqueFd err, ProgramResult* result) {
  std::array<pollfd, 2> waits = {{{out.get(), POLLIN, 0}, {err.get(), POLLIN, 0}}};
  std::array<std::string*, 2> texts = {&result->out, &result->err};
  while (waits[0].fd >= 0 || waits[1].fd >= 0) {
    if (poll(waits.data(), waits.size(), -1) < 0) continue;
    for (size_t i = 0; i < waits.size(); ++i) {
      if (waits[i].fd < 0 || waits[i].revents == 0) continue;
      char piece[65536];
      ssize_t got = read(waits[i].fd, piece, sizeof piece);
      if (got > 0) texts[i]->append(piece, got);
      if (got == 0 || (got < 0 && errno != EINTR)) waits[i].fd = -1;
    }
  }
}

}  // namespace

absl::StatusOr<std::string> ProgramPath(const std::string& name) {
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Internal("cannot tell where this program lies: ", error.message());
  std::string path = (self.parent_path() / name).string();
  if (access(path.c_str(), X_OK) != 0) {
    return NotFound("'", path, "' is not there: it is built and installed together with tandem (scripts/build)");
  }
  return path;
}

absl::Status ExecProgram(const std::string& name, const std::vector<std::string>& arguments) {
  TANDEM_ASSIGN_OR_RETURN(std::string path, ProgramPath(name));
  std::vector<std::string> copy = arguments;
  execv(path.c_str(), Argv(path, copy).data());
  return ErrnoStatus(errno, StrCat("start '", path, "'"));
}

absl::StatusOr<ProgramResult> RunProgram(const std::string& name, const std::vector<std::string>& arguments) {
  TANDEM_ASSIGN_OR_RETURN(std::string path, ProgramPath(name));
  TANDEM_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  TANDEM_ASSIGN_OR_RETURN(Pipe err, MakePipe());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out.write.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.write.get(), STDERR_FILENO);
  std::vector<std::string> copy = arguments;
  pid_t pid = 0;
  int error = posix_spawn(&pid, path.c_str(), &actions, nullptr, Argv(path, copy).data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoStatus(error, StrCat("start '", path, "'"));
  out.write.Reset();
  err.write.Reset();
  ProgramResult result;
  Drain(std::move(out.read), std::move(err.read), &result);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::string ErrorText(const ProgramResult& result) {
  std::string_view text = result.err;
  while (text.ends_with('\n')) text.remove_suffix(1);
  for (std::string_view prefix : {"error: ", "tandem-trainer: ", "tandem-engine-host: "}) {
    if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
  }
  if (!text.empty()) return std::string(text);
  return result.exit_code > 128 ? StrCat("it was killed by signal ", result.exit_code - 128)
                                : StrCat("it ended with exit code ", result.exit_code);
}

}  // namespace tandem::cli
