#include "isolation/group_files.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/strings.h"

namespace tandem::isolation {
namespace {

void Add(int64_t value, int64_t* sum) { *sum = std::max<int64_t>(*sum, 0) + value; }

}  // namespace

std::vector<std::string> NotEnforced(const GroupLimits& limits, const GroupAbilities& abilities) {
  std::vector<std::string> sentences;
  if (limits.cpu_cap > 0 && !abilities.cpu_cap)
    sentences.push_back(
        "CPU caps are not enforced: no CPU bandwidth control can be written here; let tandemd write a cgroup "
        "(run it as root, or under systemd with Delegate=yes), or give jobs fewer threads");
  if ((limits.memory_max_bytes > 0 || limits.memory_high_bytes > 0) && !abilities.memory)
    sentences.push_back(
        "memory limits are not enforced for a job as a whole: no memory control can be written here; the limit is put "
        "on the data of each of its processes alone (RLIMIT_DATA)");
  if (limits.memory_high_bytes > 0 && abilities.memory && !abilities.memory_high)
    sentences.push_back(
        "a job is not held at 'memory high': on cgroup v1 it is a soft limit, which only says who is reclaimed first "
        "when the machine is short of memory; set 'memory max' for a limit that holds");
  const bool write_limit = limits.disk_write_bytes_per_s > 0 || limits.disk_iops > 0;
  if ((write_limit || limits.disk_read_bytes_per_s > 0) && !abilities.disk)
    sentences.push_back(StrCat("disk limits are not enforced: ", abilities.disk_why));
  if (write_limit && abilities.disk && !abilities.buffered_writes)
    sentences.push_back(
        "disk write limits do not hold the buffered writes of foreign programs: on cgroup v1 the kernel writes them "
        "back for everybody, so only direct and fsynced writes are throttled; tandem paces its own");
  if (limits.max_processes > 0 && !abilities.processes)
    sentences.push_back(
        "process limits are not enforced: no pids control can be written here, and RLIMIT_NPROC counts all of the "
        "user's processes, so it is not used");
  return sentences;
}

DiskBytes ParseServiceBytes(std::string_view text, bool (*stacked)(std::string_view device)) {
  DiskBytes bytes;
  for (absl::string_view line : absl::StrSplit(AbslView(text), '\n')) {
    std::vector<std::string> words = absl::StrSplit(line, ' ');
    int64_t value = 0;
    // The last line, "Total 123", is there on every host that counts, also before the first byte.
    if (words.size() == 2 && words[0] == "Total") Add(0, &bytes.read), Add(0, &bytes.written);
    if (words.size() != 3 || !absl::SimpleAtoi(words[2], &value) || stacked(words[0])) continue;
    if (words[1] == "Read") Add(value, &bytes.read);
    if (words[1] == "Write") Add(value, &bytes.written);
  }
  return bytes;
}

DiskBytes ParseIoStat(std::string_view text, bool (*stacked)(std::string_view device)) {
  DiskBytes bytes = {0, 0};
  for (absl::string_view line : absl::StrSplit(AbslView(text), '\n')) {
    std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words.size() < 2 || stacked(words[0])) continue;
    for (absl::string_view word : words) {
      int64_t value = 0;
      if (absl::ConsumePrefix(&word, "rbytes=") && absl::SimpleAtoi(word, &value)) Add(value, &bytes.read);
      if (absl::ConsumePrefix(&word, "wbytes=") && absl::SimpleAtoi(word, &value)) Add(value, &bytes.written);
    }
  }
  return bytes;
}

bool IsStackedDevice(std::string_view device) {
  for (const char* kind : {"dm", "md", "loop"}) {
    if (access(StrCat("/sys/dev/block/", device, "/", kind).c_str(), F_OK) == 0) return true;
  }
  return false;
}

Bandwidth BandwidthOf(double cpus) {
  constexpr int64_t kPeriodUs = 20'000, kLongPeriodUs = 500'000, kLeastQuotaUs = 1000;
  const int64_t period = cpus * kPeriodUs >= kLeastQuotaUs ? kPeriodUs : kLongPeriodUs;
  return {std::max(kLeastQuotaUs, static_cast<int64_t>(std::llround(cpus * static_cast<double>(period)))), period};
}

}  // namespace tandem::isolation
