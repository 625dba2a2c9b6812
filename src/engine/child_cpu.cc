#include "engine/child_cpu.h"

#include <algorithm>
#include <string>

#include "absl/strings/numbers.h"
#include "base/files.h"
#include "base/status.h"

namespace tandem::engine {
namespace {

// By the process's clock, ended threads included; `otherwise` when it is gone.
int64_t ReadClock(clockid_t clock, int64_t otherwise) {
  timespec used = {};
  if (clock_gettime(clock, &used) != 0) return otherwise;
  return used.tv_sec * 1'000'000'000 + used.tv_nsec;
}

// The first figure of its schedstat: a thread's clock can only be read by its own process. `otherwise` when it is gone.
int64_t ReadThread(pid_t child, pid_t thread, int64_t otherwise) {
  const std::string text = ReadFile(StrCat("/proc/", child, "/task/", thread, "/schedstat"), 256).value_or("");
  int64_t nanos = 0;
  return absl::SimpleAtoi(text.substr(0, text.find(' ')), &nanos) ? nanos : otherwise;
}

}  // namespace

void ChildCpu::Begin(pid_t child) {
  Process process;
  if (clock_getcpuclockid(child, &process.clock) != 0) return;  // it is gone already, and was never asked
  process.used.all_ns = process.other_ns = ReadClock(process.clock, 0);
  const int64_t main_ns = ReadThread(child, child, 0);
  process.others.push_back({.tid = child, .begun_ns = main_ns, .now_ns = main_ns});
  std::lock_guard lock(mutex_);
  children_[child] = std::move(process);
}

void ChildCpu::End(pid_t child) {
  std::lock_guard lock(mutex_);
  auto found = children_.find(child);
  if (found == children_.end()) return;
  Update(child, &found->second);
  ended_.all_ns += found->second.used.all_ns;
  ended_.requests_ns += found->second.used.requests_ns;
  children_.erase(found);
}

void ChildCpu::AddThread(pid_t child, pid_t thread) {
  std::lock_guard lock(mutex_);
  auto found = children_.find(child);
  if (found != children_.end()) found->second.others.push_back({.tid = thread});
}

void ChildCpu::EndThread(pid_t child, pid_t thread) {
  std::lock_guard lock(mutex_);
  auto found = children_.find(child);
  if (found == children_.end()) return;
  Process& process = found->second;
  auto other = std::ranges::find(process.others, thread, &Thread::tid);
  if (other == process.others.end()) return;
  other->now_ns = ReadThread(child, thread, other->now_ns);
  process.other_ns += other->now_ns - other->begun_ns;
  process.others.erase(other);
}

ChildCpu::Used ChildCpu::Read() {
  std::lock_guard lock(mutex_);
  Used sum = ended_;
  for (auto& [child, process] : children_) {
    Update(child, &process);
    sum.all_ns += process.used.all_ns;
    sum.requests_ns += process.used.requests_ns;
  }
  return sum;
}

// The two kinds of clocks are read one after the other, and the kernel brings each up to date at its own ticks: the
// maximum keeps a sum from going back by that.
void ChildCpu::Update(pid_t child, Process* process) {
  int64_t other_ns = process->other_ns;
  for (Thread& thread : process->others) {
    thread.now_ns = ReadThread(child, thread.tid, thread.now_ns);
    other_ns += thread.now_ns - thread.begun_ns;
  }
  process->used.all_ns = std::max(process->used.all_ns, ReadClock(process->clock, 0));
  process->used.requests_ns = std::max(process->used.requests_ns, process->used.all_ns - other_ns);
}

}  // namespace tandem::engine
