#include <dirent.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/strings.h"
#include "isolation/cgroup.h"
#include "isolation/isolation.h"

namespace tandem::isolation {
namespace fs = std::filesystem;
namespace {

// cpuinfo has 2 kB for each CPU.
std::string ReadText(const fs::path& path) { return ReadFile(path, 1 << 26).value_or(""); }

int AffinityCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, CPU_COUNT(&set));
}

void ReadCpuInfo(Topology* topology) {
  std::set<std::string> flags;
  for (absl::string_view line : absl::StrSplit(ReadText("/proc/cpuinfo"), '\n')) {
    std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(line, absl::MaxSplits(':', 1));
    absl::string_view key = absl::StripAsciiWhitespace(pair.first);
    if (key == "model name" && topology->cpu_model.empty())
      topology->cpu_model = std::string(absl::StripAsciiWhitespace(pair.second));
    if (key == "flags" && flags.empty()) {
      for (absl::string_view flag : absl::StrSplit(pair.second, ' ')) flags.insert(std::string(flag));
    }
  }
  topology->avx2 = flags.count("avx2") != 0;
  topology->avx512 = flags.count("avx512f") != 0;
  topology->avx512_vnni = flags.count("avx512_vnni") != 0;
  topology->avx512_bf16 = flags.count("avx512_bf16") != 0;
  topology->amx = flags.count("amx_bf16") != 0;
}

std::string ReadGpu() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/driver/nvidia/gpus", error)) {
    for (absl::string_view line : absl::StrSplit(ReadText(entry.path() / "information"), '\n')) {
      if (absl::ConsumePrefix(&line, "Model:")) return std::string(absl::StripAsciiWhitespace(line));
    }
  }
  return "";
}

}  // namespace

Topology ReadTopology() {
  Topology topology;
  topology.online_cpus = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  CgroupLimits limits = ReadCgroupLimits();
  topology.cpu_quota = limits.cpus;
  topology.usable_cpus = AffinityCpus();
  if (limits.cpus > 0)
    topology.usable_cpus = std::clamp(static_cast<int>(std::ceil(limits.cpus)), 1, topology.usable_cpus);
  topology.memory_bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  if (limits.memory_bytes > 0) topology.memory_bytes = std::min(topology.memory_bytes, limits.memory_bytes);
  ReadCpuInfo(&topology);
  topology.gpu = ReadGpu();
  return topology;
}

}  // namespace tandem::isolation
