#include "daemon/sharing_metrics.h"

#include "base/strings.h"

namespace tandem::daemon {
namespace {

using Type = MetricFamily::Type;

void Add(std::vector<MetricFamily>* families, Type type, std::string name, std::string help,
         std::vector<MetricSample> samples) {
  if (!samples.empty()) families->push_back({std::move(name), std::move(help), type, std::move(samples)});
}

void AddIsolation(const isolation::Isolation& isolation, std::vector<MetricFamily>* families) {
  std::vector<MetricSample> rungs;
  const isolation::Rung in_force = isolation.capabilities().rung;
  for (isolation::Rung rung : {isolation::Rung::kRealtime, isolation::Rung::kCgroupWeight, isolation::Rung::kAutogroup,
                               isolation::Rung::kNice, isolation::Rung::kOff}) {
    rungs.push_back({{{"rung", std::string(isolation::RungName(rung))}}, rung == in_force ? 1.0 : 0.0, nullptr});
  }
  Add(families, Type::kGauge, "tandem_isolation_rung", "1 for the isolation in force.", std::move(rungs));
  std::vector<MetricSample> cpu, delay, runs, demotions;
  for (const isolation::LatencyThread& thread : isolation.LatencyThreads()) {
    Labels labels = {{"thread", thread.name}};
    cpu.push_back({labels, thread.cpu_seconds, nullptr});
    delay.push_back({labels, thread.run_delay_seconds, nullptr});
    runs.push_back({labels, static_cast<double>(thread.times_run), nullptr});
    demotions.push_back({labels, static_cast<double>(thread.demotions), nullptr});
  }
  Add(families, Type::kCounter, "tandem_latency_thread_cpu_seconds_total", "CPU time of a request thread.", cpu);
  Add(families, Type::kCounter, "tandem_latency_thread_run_delay_seconds_total",
      "Time that a request thread was ready and not on a CPU.", delay);
  Add(families, Type::kCounter, "tandem_latency_thread_runs_total", "Times that a request thread was put on a CPU.",
      runs);
  Add(families, Type::kCounter, "tandem_latency_thread_demotions_total",
      "Times that a request thread overran its budget and lost its class for a while.", demotions);
  isolation::Usage side = isolation.ReadSideUsage();
  Add(families, Type::kCounter, "tandem_training_cpu_seconds_total", "CPU time of all of the server's children.",
      {{{}, side.cpu_seconds, nullptr}});
  Add(families, Type::kGauge, "tandem_training_memory_bytes", "Memory of all of the server's children.",
      {{{}, static_cast<double>(side.memory_bytes), nullptr}});
}

}  // namespace

void AddSharingMetrics(const isolation::Isolation& isolation, const Governor& governor, const GateRecord& gate,
                       const Housekeeper& housekeeper, std::vector<MetricFamily>* families) {
  AddIsolation(isolation, families);
  const GovernorView view = governor.View();
  auto gauge = [&](const char* name, const char* help, double value) {
    Add(families, Type::kGauge, name, help, {{{}, value, nullptr}});
  };
  gauge("tandem_training_share", "Share of the CPUs that the policy leaves training (0..1).",
        view.memory.training_share);
  gauge("tandem_training_allowed_threads", "Training threads that may run now, by the gate.", view.allowed_threads);
  std::vector<MetricSample> changes;
  for (GateStep step : kGateSteps)
    changes.push_back({{{"change", std::string(GateStepName(step))}}, static_cast<double>(gate.Total(step)), nullptr});
  Add(families, Type::kCounter, "tandem_gate_changes_total",
      "Times that the gate changed how many training threads may run: to none, to fewer, to more.", changes);
  gauge("tandem_training_open", "1 while training may run (windows, ratios).", view.grant.training_open ? 1 : 0);
  gauge("tandem_training_cpu_cap", "CPUs that training is capped to; 0 = not capped.", view.grant.training_cpus);
  gauge("tandem_serving_cpu_cap", "CPUs that serving is held to by admission; 0 = not held.", view.grant.serving_cpus);
  if (std::optional<isolation::RunDelay> delay = housekeeper.MeasuredRunDelay()) {
    std::vector<MetricSample> statistics = {{{{"statistic", "p50"}}, delay->p50_us / 1e6, nullptr},
                                            {{{"statistic", "p99"}}, delay->p99_us / 1e6, nullptr},
                                            {{{"statistic", "max"}}, delay->max_us / 1e6, nullptr}};
    Add(families, Type::kGauge, "tandem_isolation_run_delay_seconds",
        "Wait of a request thread for a CPU beside busy children, measured at the start.", statistics);
  }
  std::vector<MetricSample> used, limit;
  for (const DiskArea& area : housekeeper.Areas()) {
    used.push_back({{{"side", area.side}}, static_cast<double>(area.used_bytes), nullptr});
    if (area.limit_bytes > 0) limit.push_back({{{"side", area.side}}, static_cast<double>(area.limit_bytes), nullptr});
  }
  Add(families, Type::kGauge, "tandem_disk_area_used_bytes", "Bytes in a side's disk area.", used);
  Add(families, Type::kGauge, "tandem_disk_area_limit_bytes", "Greatest size of a side's disk area.", limit);
}

}  // namespace tandem::daemon
