#pragma once
// What kind of place this process runs in: container, disk, rights. The parts that read text are pure.
#include <filesystem>
#include <string>
#include <string_view>

namespace tandem::isolation {

struct ContainerTraces {
  bool dockerenv = false, containerenv = false;  // the files /.dockerenv and /run/.containerenv
  std::string kubernetes_host;                   // $KUBERNETES_SERVICE_HOST
  std::string init_cgroup;                       // text of /proc/1/cgroup
  std::string container_variable;                // $container, as systemd and podman set it
};
// "" (none seen), "kubernetes", "docker", "podman", "lxc" or "container". Pure.
std::string ContainerOf(const ContainerTraces& traces);
std::string DetectContainer();

// The block device under a folder, as disk limits need it: the whole disk, not a partition.
struct Disk {
  std::string device;     // "MAJ:MIN"; "" = none
  std::string scheduler;  // "none", "mq-deadline", "bfq", ...; "" = unknown
  std::string why;        // when there is no device: one clause and what to do
};
Disk FindDisk(const std::filesystem::path& folder);
// "none [mq-deadline] bfq" -> "mq-deadline"; "none" -> "none".
std::string ActiveScheduler(std::string_view text);
struct MountedOn {
  std::string type, source;
};
// What the mount that holds `path` (absolute) is. Pure.
MountedOn MountOf(std::string_view mountinfo, const std::filesystem::path& path);

// Whether a thread of this process may run as SCHED_FIFO: tried, on a short thread of its own.
struct RealtimeTrial {
  bool works = false;
  std::string why;  // when it does not: one clause and what to do
};
RealtimeTrial TryRealtime();
// Why it does not, from the error, the text of /proc/self/status and the cpu controller's folder. Pure.
std::string RealtimeRefusal(int error, std::string_view self_status, std::string_view cpu_group);

bool AutogroupWorks();
bool HasPressure();

}  // namespace tandem::isolation
