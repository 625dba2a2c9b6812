#pragma once
// How running jobs stand still and go on.
//
//               Anticipate, Pause             Settle, 200 ms later
//   goes on ----------------------> frozen -----------------------> rests by itself
//      ^                               |                                   |
//      +------ Anticipate, Resume -----+-----------------------------------+
//
// A pause freezes at once, on the thread of whoever asks for it, and before it is written down: beside training each
// other thread that had to run for it would take up to a tick of the kernel (4 ms), and the disk longer. Then the
// trainer is told, and thawed to end its micro-batch and to rest by itself: a frozen process would not notice the end
// of the daemon.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "isolation/isolation.h"
#include "jobs/job_store.h"
#include "trainer.pb.h"

namespace tandem::daemon {

// What pauses need of a job's trainer. Thread-safe.
class PausableTrainer {
 public:
  virtual ~PausableTrainer() = default;
  // Stops every thread of the trainer where it stands, and lets it go on: ResourceGroup::Freeze and Thaw, with their
  // errors.
  virtual absl::Status Freeze() = 0;
  virtual absl::Status Thaw() = 0;
  virtual void Send(wire::Control::Verb verb) = 0;
  // Of all its processes so far.
  virtual isolation::Usage ReadUsage() const = 0;
  // Ends it at once, a frozen one too.
  virtual void Kill() = 0;
};

struct JobPausesParts {  // all outlive it
  Clock* clock;
  const jobs::JobStore* jobs;                        // read only: who pauses a job writes its record
  std::function<void(int32_t job, bool hold)> hold;  // nothing of it may begin to run while it is held; thread-safe
};

// Thread-safe. A call for one job waits for calls for the same job alone, and never for a record that is being written.
class JobPauses {
 public:
  explicit JobPauses(JobPausesParts parts) : parts_(std::move(parts)) {}

  // The job's trainer runs, until Remove. REQUIRES: the job was not added, or was removed since.
  void Add(int32_t job, PausableTrainer* trainer);
  // When it returns nobody uses the trainer any more.
  void Remove(int32_t job);

  // Has the job stand still, or go on, at once; then runs `write`, which is to record that, and gives its answer. The
  // record has the last word: when `write` failed, or another caller wrote something else meanwhile, the job does what
  // the record says then. Of no effect on one that does not run, or must leave.
  absl::Status Anticipate(int32_t job, bool paused, const std::function<absl::Status()>& write);

  // For who moves the records, with what they said when it looked. Refused when it does not run, must leave, or while
  // somebody anticipates what it does: it then does what is being written.
  enum class Standing {
    kRefused,
    kFrozen,
    kEnding,  // not frozen: its threads end their micro-batches
  };
  Standing Pause(int32_t job);
  bool Resume(int32_t job);  // false = refused
  // Tells the trainer to rest, if the job still pauses and it was not told. Not before the record says "pausing" or
  // "paused": its answer is looked for there.
  void TellToRest(int32_t job);

  // Tells the trainer to write its last checkpoint and to leave, thaws it, and disturbs it no more.
  void Leave(int32_t job);
  // The same for all, also for those that are added later, which are not told.
  void LeaveAll();

  // One round, about every 100 ms: thaws what has been frozen for long enough, tries again what could not be thawed,
  // and ends trainers that compute on although they pause.
  struct Round {
    std::vector<int32_t> resting;  // their trainers say so; their records say "pausing"
    std::vector<int32_t> ended;    // computed on, and were killed: they end in a moment
  };
  Round Settle();

 private:
  struct Job;
  std::shared_ptr<Job> Find(int32_t job) const;
  std::vector<std::shared_ptr<Job>> All() const;
  // Runs body(Job&) with the job's mutex held, if the job runs.
  template <typename Body>
  void WithRunning(int32_t job, Body body);

  // All below REQUIRE: the job's mutex is held.
  void Follow(Job& job, std::optional<bool> paused);  // nothing given: what its record says
  void StandStill(Job& job);
  void GoOn(Job& job);
  static void Tell(Job& job);
  void Thaw(Job& job);
  void Dismiss(Job& job);
  void End(Job& job);

  const JobPausesParts parts_;
  mutable std::mutex mutex_;                      // never held over a call of a trainer
  std::map<int32_t, std::shared_ptr<Job>> jobs_;  // guarded by mutex_
  bool stopping_ = false;                         // guarded by mutex_
};

}  // namespace tandem::daemon
