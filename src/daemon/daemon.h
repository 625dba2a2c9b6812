#pragma once
// The composition root: makes every part, in order, and takes them down in reverse. The only code that wires modules
// together.
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spec/settings.h"

namespace tandem::daemon {

class Daemon {
 public:
  // Locks the data folder, opens the store, recovers, binds the ports. REQUIRES: SIGTERM, SIGINT and SIGHUP are blocked
  // in the calling thread, so that every thread made here inherits that.
  static absl::StatusOr<std::unique_ptr<Daemon>> Create(const spec::Settings& settings);
  virtual ~Daemon() = default;
  // Serves until RequestStop, then stops cleanly: refuses new work, drains, checkpoints jobs.
  virtual absl::Status Run() = 0;
  // Thread-safe.
  virtual void RequestStop() = 0;
  // After Run: whether an engine holds a thread of this process in a run that does not end. Destroying the daemon would
  // wait for it; the process is to end without that (_exit), and loses nothing, for all that was answered is on disk.
  virtual bool HangsInEngine() = 0;
};

}  // namespace tandem::daemon
