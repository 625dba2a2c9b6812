#include "engine/ending.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include "base/strings.h"

namespace tandem::engine {

std::string SignalText(int signal) {
  const char* text = sigdescr_np(signal);
  return StrCat("signal ", signal, " (", text == nullptr ? "unknown" : text, ")");
}

std::string Describe(const Ending& ending) {
  switch (ending.kind) {
    case Ending::Kind::kSignal:
      return StrCat("crashed: ", SignalText(ending.number));
    case Ending::Kind::kExit:
      return StrCat("ended with exit code ", ending.number);
    case Ending::Kind::kTooSlow:
      return "was stopped because a run in it took too long";
    case Ending::Kind::kNotStarted:
      return "could not be started again (the log says why)";
    case Ending::Kind::kUnknown:
      break;
  }
  return "ended";
}

Ending AwaitEnding(int pidfd, int timeout_ms) {
  pollfd entry = {.fd = pidfd, .events = POLLIN};
  while (poll(&entry, 1, timeout_ms) < 0 && errno == EINTR) {
  }
  siginfo_t info = {};
  if (waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOWAIT | WNOHANG) != 0 || info.si_pid == 0) return {};
  return {info.si_code == CLD_EXITED ? Ending::Kind::kExit : Ending::Kind::kSignal, info.si_status};
}

}  // namespace tandem::engine
