#pragma once
// Engines outside of this process: a model that is loaded in a child, and looks like any other LoadedModel.
//
// One child per loaded model, one thread in it per instance. A run writes its inputs into memory that both share, sends
// a small packet, and waits on the calling thread for the answer. When the child ends (a signal, an exit, or killed
// because a run took longer than run_timeout_s) the runs in it fail, those that come meanwhile fail at once with
// Unavailable, and a new child is started after 1, 2, 4 .. 30 s (from 1 s again once one has lived for a minute).
#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/child_cpu.h"
#include "engine/engine.h"

namespace tandem::engine {

// A child that answers requests. Killed and waited for when destroyed. Thread-safe.
class Service {
 public:
  virtual ~Service() = default;
  virtual pid_t pid() const = 0;
  // Readable once the child has ended. Nobody else waits for the child: its status can be read through it.
  virtual int pidfd() const = 0;
  virtual void Kill() = 0;  // SIGKILL, its own children too
  // A thread of it answers requests: gives it the class that the server's own such threads have. Best effort.
  virtual void EnterLatencyClass(pid_t tid) = 0;
};
// Starts argv as a part of serving (not lowered), with `socket` as its descriptor kServiceSocket and no other but 0-2.
using SpawnService =
    std::function<absl::StatusOr<std::unique_ptr<Service>>(const std::vector<std::string>& argv, int socket)>;
inline constexpr int kServiceSocket = 3;

struct RemoteOptions {
  std::string what;  // "model 'x' version 3": begins messages
  std::string engine;
  std::filesystem::path folder;  // prepared; stays while the model is loaded
  Options options;
  double load_timeout_s = 600;  // of a load, and of making one instance
  double run_timeout_s = 30;
  SpawnService spawn;
  std::shared_ptr<ChildCpu> cpu;  // counts what its children use; null = nobody wants to know
  Clock* clock = Clock::Real();   // for the times of restarts
  bool supervise = true;          // by a thread of its own; tests step by hand (remote_model.h)
};

// Starts the child and waits until it has loaded. NotFound: the folder is not prepared for this engine. Instances are
// as those of Engine::Load: none outlives the model.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadRemote(RemoteOptions options);

}  // namespace tandem::engine
