// What `tandem doctor` says of the machine.
#include "base/status.h"
#include "base/text.h"
#include "daemon/admin_service.h"
#include "daemon/children.h"
#include "engine/engine.h"
#include "isolation/isolation.h"

namespace tandem::daemon {
namespace {

void Check(wire::DoctorReport* report, std::string name, std::string_view state, std::string detail,
           std::string cure = "") {
  wire::DoctorCheck* check = report->add_checks();
  check->set_name(std::move(name));
  check->set_state(std::string(state));
  check->set_detail(std::move(detail));
  check->set_cure(std::move(cure));
}

int64_t Rounded(double value) { return static_cast<int64_t>(value + 0.5); }

void CheckCpu(const isolation::Topology& topology, wire::DoctorReport* report) {
  std::string detail = StrCat(topology.usable_cpus, " usable of ", topology.online_cpus, " CPUs");
  if (topology.cpu_quota > 0) StrAppend(&detail, " (cgroup quota ", topology.cpu_quota, ")");
  if (!topology.cpu_model.empty()) StrAppend(&detail, ", ", topology.cpu_model);
  Check(report, "cpu", topology.avx2 ? "ok" : "warning", detail,
        topology.avx2 ? "" : "without AVX2 training and serving are slow");
  std::string_view bf16 = topology.amx ? "AMX" : topology.avx512_bf16 ? "AVX512-BF16" : "";
  Check(report, "bf16", "ok",
        bf16.empty() ? "not in hardware: precision auto trains in fp32"
                     : StrCat(bf16, ": precision auto trains in bf16"));
  Check(report, "memory", topology.memory_bytes > 2'000'000'000 ? "ok" : "warning",
        StrCat(HumanBytes(topology.memory_bytes), " usable"));
  Check(report, "gpu", "ok", topology.gpu.empty() ? "none seen: the CPU is used" : topology.gpu);
}

void CheckIsolation(const isolation::Capabilities& capabilities, wire::DoctorReport* report) {
  const bool best = capabilities.rung == isolation::Rung::kRealtime;
  Check(report, "isolation", best ? "ok" : "warning",
        StrCat(isolation::RungName(capabilities.rung), ": ", capabilities.explanation),
        best ? "" : "run the server as root, or with CAP_SYS_NICE in a delegated cgroup (systemd: Delegate=yes)");
  Check(report, "cgroups", capabilities.cgroup == "none" ? "warning" : "ok", capabilities.cgroup);
  Check(
      report, "realtime", "ok",
      capabilities.can_set_realtime ? "this process may set scheduling classes" : "no right to set scheduling classes");
  std::string held;
  for (auto [holds, name] :
       std::initializer_list<std::pair<bool, const char*>>{{capabilities.cpu_cap, "CPU caps"},
                                                           {capabilities.memory, "memory"},
                                                           {capabilities.disk, "disk rates"},
                                                           {capabilities.processes, "process counts"},
                                                           {capabilities.freeze, "freezing"}}) {
    if (holds) StrAppend(&held, held.empty() ? "" : ", ", name);
  }
  Check(report, "limits", "ok", held.empty() ? "the kernel holds none here" : StrCat("the kernel holds: ", held));
  for (const std::string& sentence : capabilities.not_enforced) Check(report, "not enforced", "warning", sentence);
  Check(report, "pressure", "ok",
        capabilities.pressure ? "/proc/pressure is there" : "the kernel has no /proc/pressure");
  if (!capabilities.container.empty()) Check(report, "container", "ok", capabilities.container);
  if (!capabilities.disk_scheduler.empty()) Check(report, "disk scheduler", "ok", capabilities.disk_scheduler);
}

// Measured, not promised: what a request thread has to wait for a CPU while children keep all of them busy.
void CheckRunDelay(isolation::Isolation& isolation, wire::DoctorReport* report) {
  constexpr int kMillis = 200;
  absl::StatusOr<isolation::RunDelay> delay = isolation.MeasureRunDelay(kMillis);
  if (!delay.ok()) return Check(report, "run delay", "warning", std::string(MessageOf(delay.status())));
  constexpr double kGoodMicros = 50;
  Check(report, "run delay", delay->p99_us <= kGoodMicros ? "ok" : "warning",
        StrCat("beside ", delay->busy_processes, " busy children a request thread waits ", Rounded(delay->p50_us),
               " us (p50), ", Rounded(delay->p99_us), " us (p99), ", Rounded(delay->max_us),
               " us (max) for a CPU, over ", delay->samples, " wake-ups"));
}

void CheckPrograms(wire::DoctorReport* report) {
  for (const engine::EngineInfo& info : engine::ListEngines(false)) {
    if (info.error.empty()) {
      std::string version = info.version.empty() ? "in a process of its own" : StrCat("version ", info.version);
      Check(report, StrCat("engine ", info.name), "ok", StrCat(version, ", ", info.path));
    } else {
      Check(report, StrCat("engine ", info.name), "error", info.error,
            "rebuild it with scripts/build, or take it out of TANDEM_ENGINE_PATH");
    }
  }
  for (const char* name : {"tandem-trainer", "tandem-engine-host", "tandem-launch"}) {
    std::filesystem::path path = BesideSelf(name);
    bool there = std::filesystem::exists(path);
    Check(report, name, there ? "ok" : "error", there ? path.string() : StrCat("'", path.string(), "' is missing"),
          there ? "" : "build it: scripts/build");
  }
}

}  // namespace

wire::DoctorReport ExamineHost(isolation::Isolation& isolation) {
  wire::DoctorReport report;
  CheckCpu(isolation::ReadTopology(), &report);
  CheckIsolation(isolation.capabilities(), &report);
  CheckRunDelay(isolation, &report);
  CheckPrograms(&report);
  return report;
}

}  // namespace tandem::daemon
