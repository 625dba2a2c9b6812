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

// How strongly training can be kept away from serving here, best first.
enum class Rung {
  kRealtime,  // serving threads run as SCHED_FIFO, children in a cgroup of the lowest CPU weight (or, where none can
              // be written, in an autogroup of nice 19: the explanation says which)
  kCgroupWeight,  // children in a cgroup of the lowest CPU weight
  kAutogroup,     // no cgroup can be written: autogroup nice 19 and nice 19
  kNice,          // neither: nice 19 alone
  kOff,           // asked for: no isolation at all (to measure what it is worth)
};
std::string_view RungName(Rung rung);  // "realtime", "cgroup-weight", "autogroup", "nice", "off"

struct Capabilities {
  Rung rung = Rung::kNice;
  std::string cgroup;             // "v1", "v2", "hybrid", "none"
  std::string explanation;        // one sentence: what is in force, and why not more
  bool can_set_realtime = false;  // CAP_SYS_NICE (or an RTPRIO limit)
  bool autogroup = false;
  // What of GroupLimits the kernel enforces here.
  bool cpu_cap = false, memory = false, disk = false, processes = false, freeze = false;
  bool pressure = false;                  // /proc/pressure
  std::string container;                  // "", "docker", "podman", "kubernetes", "lxc", "container"
  std::string disk_scheduler;             // of the device below `disk_folder`: "none", "mq-deadline", "bfq", ...
  std::vector<std::string> not_enforced;  // one sentence each: which limit, why, what to do
};

// CPU time, memory and disk traffic of a group since it was made. -1 where the kernel does not tell.
struct Usage {
  double cpu_seconds = 0;
  int64_t memory_bytes = 0;
  int64_t peak_memory_bytes = 0;
  int64_t disk_read_bytes = -1, disk_written_bytes = -1;
  int64_t processes = -1;
  int64_t out_of_memory_kills = 0;
  int64_t throttled_periods = 0;  // by a CPU cap
};

// 0 = no limit in all but weight.
struct GroupLimits {
  int64_t cpu_weight = 1000;  // among siblings, 1..10000 (v2's range; v1 gets what is in proportion)
  double cpu_cap = 0;         // CPUs' worth
  int64_t memory_high_bytes = 0, memory_max_bytes = 0;
  int64_t max_processes = 0;  // threads count too, as the kernel counts
  int64_t disk_write_bytes_per_s = 0, disk_read_bytes_per_s = 0, disk_iops = 0;  // of the device below `disk_folder`
  bool operator==(const GroupLimits&) const = default;
};

// One group of processes under tandem's parent group. Removed (its processes killed) when destroyed. Thread-safe.
class ResourceGroup {
 public:
  virtual ~ResourceGroup() = default;
  virtual const std::string& name() const = 0;
  virtual Usage ReadUsage() const = 0;
  // What could not be enforced, one sentence each; an error only where a limit that holds here could not be written.
  virtual absl::StatusOr<std::vector<std::string>> SetLimits(const GroupLimits& limits) = 0;
  // Stops every process where it stands, in memory, and returns once all stand (bounded: DeadlineExceeded, 1 s);
  // Unimplemented where the kernel cannot. A frozen group can be killed, by Kill: a signal to one of its children may
  // wait until it is thawed (v1's freezer), so Thaw or Kill before a ChildProcess of it is destroyed.
  virtual absl::Status Freeze() = 0;
  virtual absl::Status Thaw() = 0;
  // Files that a process writes its own pid (or "19") to in order to join: (path, text); "" text means the pid.
  virtual std::vector<std::pair<std::string, std::string>> JoinFiles() const = 0;
  // SIGKILLs every process of the group and waits until it is empty (bounded: DeadlineExceeded, 5 s). Its usage can
  // still be read.
  virtual absl::Status Kill() = 0;

  // For ChildProcess::Spawn: arguments that tandem-launch gets, and the child that was started with them.
  virtual std::vector<std::string> LaunchArguments() const { return {}; }
  virtual void Adopt(pid_t child) { (void)child; }
};

// A latency-class thread, as the watchdog sees it. Times since the thread entered the class.
struct LatencyThread {
  std::string name;
  pid_t tid = 0;
  double cpu_seconds = 0;
  double run_delay_seconds = 0;  // ready, but not on a CPU
  int64_t times_run = 0;
  int64_t demotions = 0;  // how often it overran its budget
  bool demoted = false;   // now
};

// What a thread that must run at once would have to wait: measured.
struct RunDelay {
  int samples = 0;
  double p50_us = 0, p99_us = 0, max_us = 0;
  int busy_processes = 0;  // that ran beside it in a background group
};

struct IsolationOptions {
  std::string instance;         // tells daemons on one machine apart (a hash of the data folder)
  std::string disk_folder;      // whose device disk limits are for
  std::string wanted = "auto";  // auto, or the best rung to climb to: realtime, cgroup-weight, autogroup, nice, off
  double budget_ms = 100;       // a latency-class thread that runs longer without a wait is demoted until it waits
};

// Finds the best rung at start; removes groups that a dead daemon left (those named after `instance`). Thread-safe.
class Isolation {
 public:
  static absl::StatusOr<std::unique_ptr<Isolation>> Create(const IsolationOptions& options);
  virtual ~Isolation() = default;
  // A copy: it changes when a write fails and the ladder is climbed again (one rung lower, said in the log).
  virtual Capabilities capabilities() const = 0;
  // A group for background work below the training side's parent, which has the lowest weight. Names are used by one
  // group at a time. On rungs without cgroups it stands for the sessions of its children; the memory limit is put on
  // the data of each process alone (RLIMIT_DATA), the others are not held. With a `disk_folder` its disk limits are
  // for the device below that one, and for all groups that name this device together: each gets an even part of what it
  // is given. The side's are not divided with it (v1; on v2 the side's hold it as well, where the device is the same).
  virtual absl::StatusOr<std::unique_ptr<ResourceGroup>> CreateGroup(const std::string& name,
                                                                     const GroupLimits& limits = {},
                                                                     const std::string& disk_folder = "") = 0;
  // Limits of all of tandem's children together (the weight is ignored: it is the lowest). As SetLimits.
  virtual absl::StatusOr<std::vector<std::string>> SetSideLimits(const GroupLimits& limits) = 0;
  // Usage of all children together, those that ended too.
  virtual Usage ReadSideUsage() const = 0;

  // Puts the calling thread into the class for requests: SCHED_FIFO 1 on the best rung, with timer slack 1 ns and
  // reset-on-fork; else only the slack. Watched until it ends. REQUIRES: no other latency thread is created by it.
  virtual void EnterLatencyClass(const std::string& name) = 0;
  virtual std::vector<LatencyThread> LatencyThreads() const = 0;
  // Their cpu_seconds, summed up: by clocks, without a file, for who asks fifty times a second.
  virtual double LatencyCpuSeconds() const = 0;
  // Measures how long a thread of the latency class waits for a CPU beside busy children, for about `ms`; blocks.
  virtual absl::StatusOr<RunDelay> MeasureRunDelay(int ms) = 0;
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

}  // namespace tandem::isolation
