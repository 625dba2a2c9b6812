#pragma once
// Resource groups, scheduling classes, topology, and children started inside them. Knows no jobs and no models: it
// limits named groups of processes. What could not be enforced is said, never pretended.
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"

namespace tandem::isolation {

// What this machine has, and may use.
struct Topology {
  int online_cpus = 1;
  int usable_cpus = 1;       // min(affinity, cgroup quota rounded up), >= 1
  double cpu_quota = 0;      // CPUs' worth of cgroup quota; 0 = none
  int64_t memory_bytes = 0;  // min(machine, cgroup limit)
  bool avx2 = false, avx512 = false, avx512_vnni = false, avx512_bf16 = false, amx = false;
  std::string cpu_model;
  std::string gpu;  // "" when none was seen
};
Topology ReadTopology();

// How strongly training can be kept away from serving here.
enum class Rung {
  kCgroupWeight,  // children in a cgroup of the lowest CPU weight
  kAutogroup,     // no cgroup can be written: autogroup nice 19 and nice 19
  kNice,          // neither: nice 19 alone
};
struct Capabilities {
  Rung rung = Rung::kNice;
  std::string cgroup;             // "v1", "v2", "hybrid", "none"
  std::string explanation;        // one sentence: what is in force, and why not more
  bool can_set_realtime = false;  // CAP_SYS_NICE (or an RTPRIO limit)
  bool autogroup = false;
};
std::string_view RungName(Rung rung);  // "cgroup-weight", "autogroup", "nice"

// CPU time and memory of a group since it was made.
struct Usage {
  double cpu_seconds = 0;
  int64_t memory_bytes = 0;
  int64_t peak_memory_bytes = 0;
};

// One group of processes under tandem's parent group. Removed (its processes killed) when destroyed. Thread-compatible.
class ResourceGroup {
 public:
  virtual ~ResourceGroup() = default;
  virtual const std::string& name() const = 0;
  virtual Usage ReadUsage() const = 0;
  // Files that a process writes its own pid (or "19") to in order to join: (path, text); "" text means the pid.
  virtual std::vector<std::pair<std::string, std::string>> JoinFiles() const = 0;
  // SIGKILLs every process of the group and waits until it is empty.
  virtual absl::Status Kill() = 0;
};

// Finds the best rung at start; removes groups that a dead daemon left (those named after `instance`). Thread-safe.
class Isolation {
 public:
  // `instance` tells daemons on one machine apart (a hash of the data folder).
  static absl::StatusOr<std::unique_ptr<Isolation>> Create(const std::string& instance);
  virtual ~Isolation() = default;
  virtual const Capabilities& capabilities() const = 0;
  // A group of the lowest weight, for background work. On rungs without cgroups it stands for the process group alone.
  virtual absl::StatusOr<std::unique_ptr<ResourceGroup>> CreateGroup(const std::string& name) = 0;
};

// A child process, started through tandem-launch: in a session and process group of its own, joined to `group`, normal
// scheduling class, signals unblocked, every descriptor but 0-2 and `socket` (as descriptor 3) closed.
struct SpawnOptions {
  std::vector<std::string> argv;         // argv[0] is the executable's path
  std::vector<std::string> environment;  // "KEY=value", added to the parent's
  ResourceGroup* group = nullptr;        // may be null: no group, only lower nice
  int socket = -1;                       // becomes descriptor 3 in the child
  std::string output_file;               // stdout and stderr go there (appended); empty = inherited
  std::string working_folder;
};

// Owns a child: killed (whole process group) and reaped when destroyed. Thread-safe.
class ChildProcess {
 public:
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Spawn(const SpawnOptions& options);
  virtual ~ChildProcess() = default;
  virtual pid_t pid() const = 0;
  // Exit status when it ended (as of waitpid), nothing while it runs. Waits up to timeout_ms (-1 = for ever).
  virtual std::optional<int> Wait(int timeout_ms) = 0;
  virtual void Signal(int signal) = 0;  // to the whole process group
  // Becomes readable when the child ended (pidfd); -1 where the kernel has none.
  virtual int pidfd() const = 0;
};
// "exited with code 3", "killed by signal 9 (SIGKILL)".
std::string DescribeExit(int wait_status);

// Puts the calling thread into the class for background work of the daemon itself (loading, warming, evaluating): nice
// 19 and SCHED_BATCH for this thread only. Best effort.
void EnterBackgroundClass();

}  // namespace tandem::isolation
