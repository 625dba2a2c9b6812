#pragma once
// CPU time of the processes that a model runs in: all of it, for the accounts, and what of it went into requests, for
// serving's share.
#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace tandem::engine {

// What a child used once it has loaded is its requests', but for what its main thread uses (which makes instances) and
// what threads use that answer no requests: warm-ups, evaluations, copies of requests. Helpers that the engine starts
// for such a thread (`threads` above 1) count as the requests'. Exact but for a tick of the kernel, whenever it is
// read: runs need not end to be seen, and a child that dies takes nothing with it.
//
// Thread-safe, for any number of children at a time. Not for data-plane threads: it takes a lock and reads /proc.
class ChildCpu {
 public:
  // Nanoseconds since this was made. Neither ever falls.
  struct Used {
    int64_t all_ns = 0;       // loading included
    int64_t requests_ns = 0;  // part of it
  };

  // A child that has loaded its model.
  void Begin(pid_t child);
  // It is about to be waited for; from then on its number may be another's. What it used stays counted.
  void End(pid_t child);
  // A new thread of the child that answers no requests, until StartRequests or its end, which EndThread comes before.
  // EndThread of one that answers requests does nothing.
  void AddThread(pid_t child, pid_t thread);
  void StartRequests(pid_t child, pid_t thread) { EndThread(child, thread); }
  void EndThread(pid_t child, pid_t thread);

  Used Read();

 private:
  struct Thread {
    pid_t tid = 0;
    int64_t begun_ns = 0, now_ns = 0;  // of its own clock: when it was added, and as last read
  };
  struct Process {
    clockid_t clock = 0;
    int64_t other_ns = 0;        // no request's, but for what `others` used since they were added
    std::vector<Thread> others;  // those that answer no requests
    Used used;                   // as last read
  };
  static void Update(pid_t child, Process* process);

  std::mutex mutex_;
  std::map<pid_t, Process> children_;  // guarded by mutex_
  Used ended_;                         // guarded by mutex_; of children that are gone
};

}  // namespace tandem::engine
