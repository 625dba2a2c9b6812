#include "isolation/run_delay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "base/clock.h"
#include "base/status.h"
#include "isolation/latency_class.h"
#include "isolation/launch.h"

namespace tandem::isolation {
namespace {

constexpr int kStartMs = 5'000;  // for the children to begin: on a busy machine they have the lowest class

int64_t Now() { return Clock::Real()->MonotonicNanos(); }

// Each child writes a byte when it begins to compute. Gives how many have: on a machine that is busy anyway the lowest
// class may not get that far, and then others are what the thread is measured beside.
int WaitForStart(int socket, int children) {
  const int64_t deadline = Now() + int64_t{kStartMs} * 1'000'000;
  int begun = 0;
  for (; begun < children; ++begun) {
    pollfd ready = {socket, POLLIN, 0};
    const int64_t left_ms = std::max<int64_t>(0, (deadline - Now()) / 1'000'000);
    char byte;
    if (poll(&ready, 1, static_cast<int>(left_ms)) <= 0 || read(socket, &byte, 1) != 1) break;
  }
  return begun;
}

absl::StatusOr<std::vector<int64_t>> Sample(int ms) {
  std::vector<int64_t> delays;
  delays.reserve(static_cast<size_t>(ms));
  UniqueFd file(open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return Unimplemented("this kernel does not count run delay (/proc/thread-self/schedstat)");
  auto delay_now = [&]() -> int64_t {
    char text[96];
    const ssize_t size = pread(file.get(), text, sizeof text, 0);
    auto stat = ParseSchedStat({text, static_cast<size_t>(std::max<ssize_t>(size, 0))});
    return stat ? stat->delay_nanos : -1;
  };
  const int64_t end = Now() + int64_t{ms} * 1'000'000;
  int64_t before = delay_now();
  while (Now() < end) {
    const timespec pause = {0, 1'000'000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
    const int64_t after = delay_now();
    if (after < 0) return Unimplemented("this kernel does not count run delay (/proc/thread-self/schedstat)");
    delays.push_back(after - before);
    before = after;
  }
  return delays;
}

}  // namespace

RunDelay Summarize(std::vector<int64_t> delay_nanos, int busy) {
  RunDelay summary;
  summary.samples = static_cast<int>(delay_nanos.size());
  summary.busy_processes = busy;
  if (delay_nanos.empty()) return summary;
  std::sort(delay_nanos.begin(), delay_nanos.end());
  auto quantile = [&](double q) {
    const size_t rank = static_cast<size_t>(std::ceil(q * static_cast<double>(delay_nanos.size())));
    return static_cast<double>(delay_nanos[std::max<size_t>(rank, 1) - 1]) / 1000;
  };
  summary.p50_us = quantile(0.5);
  summary.p99_us = quantile(0.99);
  summary.max_us = quantile(1);
  return summary;
}

absl::StatusOr<RunDelay> MeasureBeside(ResourceGroup* group, int busy, int ms, const std::function<void()>& enter) {
  if (ms < 1 || ms > 600'000) return InvalidArgument("run delay is measured for 1 to 600000 ms, not ", ms);
  TANDEM_ASSIGN_OR_RETURN(const std::string launch, FindLaunch());
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) return ErrnoStatus(errno, "make a socket pair");
  const UniqueFd ours(sockets[0]), theirs(sockets[1]);
  std::vector<std::unique_ptr<ChildProcess>> children;
  for (int i = 0; i < busy; ++i) {
    SpawnOptions options;
    // They outlast the measurement, and end by themselves if this process dies.
    options.argv = {launch, StrCat("--burn-ms=", ms + kStartMs)};
    options.group = group;
    options.socket = theirs.get();
    TANDEM_ASSIGN_OR_RETURN(auto child, ChildProcess::Spawn(options));
    children.push_back(std::move(child));
  }
  const int begun = WaitForStart(ours.get(), busy);
  absl::StatusOr<std::vector<int64_t>> delays = Internal("not measured");
  std::thread([&] {
    enter();
    delays = Sample(ms);
  }).join();
  if (!delays.ok()) return delays.status();
  return Summarize(*std::move(delays), begun);
}

}  // namespace tandem::isolation
