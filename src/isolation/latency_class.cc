#include "isolation/latency_class.h"

#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "isolation/kernel_file.h"
#include "isolation/scheduling_class.h"
#include "telemetry/log.h"

namespace tandem::isolation {

// Leaves the class when its thread ends.
struct LatencyRegistration {
  std::shared_ptr<LatencyClass> in;
  pid_t tid = 0;
  ~LatencyRegistration() { Leave(); }
  void Leave() {
    if (in != nullptr) in->Leave(tid);
    in = nullptr;
  }
};

namespace {

thread_local LatencyRegistration registration;

}  // namespace

std::optional<SchedStat> ParseSchedStat(std::string_view text) {
  std::vector<std::string> words = absl::StrSplit(AbslView(text), absl::ByAnyChar(" \n"), absl::SkipEmpty());
  SchedStat stat;
  if (words.size() < 3 || !absl::SimpleAtoi(words[0], &stat.cpu_nanos) ||
      !absl::SimpleAtoi(words[1], &stat.delay_nanos) || !absl::SimpleAtoi(words[2], &stat.times_run)) {
    return std::nullopt;
  }
  return stat;
}

std::optional<SchedStat> ReadSchedStat(pid_t tid) {
  return ParseSchedStat(ReadKernelFile(StrCat("/proc/self/task/", tid, "/schedstat")));
}

int64_t ClockNanos(clockid_t clock) {
  timespec time = {};
  return clock_gettime(clock, &time) == 0 ? time.tv_sec * 1'000'000'000 + time.tv_nsec : 0;
}

InheritingMutex::InheritingMutex() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  pthread_mutex_init(&mutex_, &attributes);
  pthread_mutexattr_destroy(&attributes);
}

std::shared_ptr<LatencyClass> LatencyClass::Create(bool realtime, double budget_ms) {
  std::shared_ptr<LatencyClass> made(new LatencyClass(realtime, static_cast<int64_t>(budget_ms * 1e6)));
  if (!realtime) return made;
  made->wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  made->watchdog_ = std::thread([raw = made.get()] { raw->Watch(); });
  pthread_getcpuclockid(made->watchdog_.native_handle(), &made->watchdog_clock_);
  return made;
}

LatencyClass::~LatencyClass() { Stop(); }

void LatencyClass::Stop() {
  if (!watchdog_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const Watched& thread : threads_) LeaveRealtime(thread.tid).IgnoreError();
  }
  Wake();
  watchdog_.join();
}

absl::Status LatencyClass::Enter(const std::string& name) {
  registration.Leave();
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  const pid_t tid = gettid();
  Watched entry = {.name = name,
                   .tid = tid,
                   .clock = CLOCK_THREAD_CPUTIME_ID,
                   .start = ReadSchedStat(tid).value_or(SchedStat{}),
                   .overrun = Overrun(budget_nanos_, 0, 0)};
  pthread_getcpuclockid(pthread_self(), &entry.clock);
  absl::Status status;
  {
    std::lock_guard lock(mutex_);
    if (realtime_ && !stopping_) status = EnterRealtime(tid, 1);
    threads_.push_back(std::move(entry));
  }
  registration.in = shared_from_this();
  registration.tid = tid;
  Wake();
  return status;
}

void LatencyClass::Leave(pid_t tid) {
  std::lock_guard lock(mutex_);
  std::erase_if(threads_, [tid](const Watched& thread) { return thread.tid == tid; });
}

std::vector<LatencyThread> LatencyClass::Threads() const {
  std::vector<LatencyThread> threads;
  std::vector<SchedStat> starts;
  {
    std::lock_guard lock(mutex_);
    for (const Watched& thread : threads_) {
      threads.push_back(
          {.name = thread.name, .tid = thread.tid, .demotions = thread.demotions, .demoted = thread.overrun.demoted()});
      starts.push_back(thread.start);
    }
  }
  // The files are read without the mutex: a latency thread that begins or ends waits for nobody's reading.
  for (size_t i = 0; i < threads.size(); ++i) {
    const SchedStat now = ReadSchedStat(threads[i].tid).value_or(starts[i]);
    threads[i].cpu_seconds = static_cast<double>(now.cpu_nanos - starts[i].cpu_nanos) / 1e9;
    threads[i].run_delay_seconds = static_cast<double>(now.delay_nanos - starts[i].delay_nanos) / 1e9;
    threads[i].times_run = now.times_run - starts[i].times_run;
  }
  return threads;
}

double LatencyClass::CpuSeconds() const {
  int64_t nanos = 0;
  std::lock_guard lock(mutex_);
  for (const Watched& thread : threads_)
    nanos += std::max<int64_t>(0, ClockNanos(thread.clock) - thread.start.cpu_nanos);
  return static_cast<double>(nanos) / 1e9;
}

double LatencyClass::WatchdogSeconds() const {
  return watchdog_.joinable() ? static_cast<double>(ClockNanos(watchdog_clock_)) / 1e9 : 0;
}

void LatencyClass::Wake() const {
  const uint64_t one = 1;
  // An eventfd takes the write unless its counter is full, and then the watchdog is awake anyway.
  if (wake_.valid() && write(wake_.get(), &one, sizeof one) < 0) return;
}

}  // namespace tandem::isolation
