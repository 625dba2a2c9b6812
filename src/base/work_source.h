#pragma once
// How threads that poll sockets also run the work that the requests made: between two polls, without a thread of its
// own for it. So a lone request is read, run and answered by one thread, and whatever waits is ordered by who needs it
// most, not by which socket came first.
#include <cstdint>

namespace tandem {

// Work that any of several threads may take. Implemented by serving, polled by the doors. Thread-safe.
class WorkSource {
 public:
  // A thread that polls and takes work. Outlives its membership.
  class Worker {
   public:
    virtual ~Worker() = default;
    // From any thread: ends the worker's sleep, or its next one at once. Cheap, never waits.
    virtual void Wake() = 0;
    // On the worker's own thread, before a run that it submitted or took, and which takes about so long (0 = unknown).
    virtual void Occupied(int64_t expected_ns) { static_cast<void>(expected_ns); }
  };

  static constexpr int64_t kNever = INT64_MAX;

  virtual ~WorkSource() = default;
  // On the worker's thread, as Leave.
  virtual void Join(Worker* worker) = 0;
  virtual void Leave(Worker* worker) = 0;
  // Runs at most one batch of what is due, the most urgent first; false when nothing is due or no instance is idle.
  virtual bool RunOne() = 0;
  // Call before sleeping. Gives until when (monotonic nanoseconds) the worker may sleep: a delayed batch falls due or a
  // waiting request reaches its deadline then; kNever; or 0 when there is work now. From this call until EndSleep,
  // new work wakes the worker.
  virtual int64_t BeginSleep(Worker* worker) = 0;
  virtual void EndSleep(Worker* worker) = 0;
};

}  // namespace tandem
