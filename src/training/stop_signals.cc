#include "training/stop_signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace tandem::training {

absl::StatusOr<std::unique_ptr<StopSignals>> StopSignals::Create(std::function<void()> on_stop) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  UniqueFd signals(signalfd(-1, &set, SFD_CLOEXEC)), end(eventfd(0, EFD_CLOEXEC));
  if (!signals.valid() || !end.valid()) return ErrnoStatus(errno, "signalfd");
  return std::unique_ptr<StopSignals>(new StopSignals(std::move(signals), std::move(end), std::move(on_stop)));
}

StopSignals::StopSignals(UniqueFd signals, UniqueFd end, std::function<void()> on_stop)
    : signals_(std::move(signals)), end_(std::move(end)), on_stop_(std::move(on_stop)), thread_([this] { Loop(); }) {}

StopSignals::~StopSignals() {
  eventfd_write(end_.get(), 1);
  thread_.join();
}

void StopSignals::Loop() {
  pollfd fds[2] = {{.fd = signals_.get(), .events = POLLIN}, {.fd = end_.get(), .events = POLLIN}};
  while (true) {
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if (fds[1].revents != 0) return;
    if ((fds[0].revents & POLLIN) == 0) continue;
    signalfd_siginfo info;
    if (read(signals_.get(), &info, sizeof info) == sizeof info) on_stop_();
  }
}

}  // namespace tandem::training
