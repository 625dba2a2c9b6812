#include "tandem/status_text.h"

#include "base/strings.h"
#include "base/text.h"
#include "tandem/job_text.h"

namespace tandem::cli {

Table ServedTable(const wire::Status& status) {
  Table table({"MODEL", ">VERSION", "STATE", ">REQ/S", ">P50 MS", ">P99 MS", ">REQUESTS", ">FAILED"});
  for (const wire::ServedModel& model : status.served()) {
    const wire::LatencySummary& latency = model.latency();
    bool any = latency.p99_ms() > 0;  // of the last requests, where there were some lately
    table.AddRow({model.model(), StrCat(model.version()), model.state(), Thousands(latency.requests_per_s()),
                  any ? Number(latency.p50_ms(), 3) : "-", any ? Number(latency.p99_ms(), 3) : "-",
                  Thousands(latency.requests()), Thousands(latency.failures())});
  }
  return table;
}

std::string StatusText(const wire::Status& status, double now_unix_ms, const Style& style) {
  std::string out =
      StrCat(style.Bold("tandem "), status.version(), " at ", status.http(), ", pid ", status.pid(), ", up ",
             HumanSeconds(status.uptime_s()), ", memory ", HumanBytes(status.memory_bytes()), "\n");
  StrAppend(&out, "data       ", status.data(), "\n", "isolation  ", status.rung(), status.rung().empty() ? "" : ": ",
            status.isolation(), "\n");
  if (!status.policy().empty()) StrAppend(&out, "policy     ", status.policy(), "\n");
  for (const wire::DiskArea& area : status.disk_areas()) {
    StrAppend(&out, "disk       ", area.side(), " ", HumanBytes(static_cast<int64_t>(area.used_bytes())));
    if (area.limit_bytes() > 0) StrAppend(&out, " of ", HumanBytes(static_cast<int64_t>(area.limit_bytes())));
    StrAppend(&out, " in ", area.root(), "\n");
  }
  const wire::CpuSplit& cpu = status.cpu();
  StrAppend(&out, "CPU        serving ", Percent(cpu.serving()), ", training ", Percent(cpu.training()), ", other ",
            Percent(cpu.other()), ", idle ", Percent(cpu.idle()), ", steal ", Percent(cpu.steal()), "\n");
  for (const std::string& notice : status.notices()) StrAppend(&out, style.Yellow("notice"), "     ", notice, "\n");
  if (status.served_size() > 0) out += "\n" + ServedTable(status).Render(style);
  if (status.active_jobs_size() > 0) {
    Table table = JobTable();
    for (const wire::Job& job : status.active_jobs()) AddJobRow(job, now_unix_ms, style, &table);
    out += "\n" + table.Render(style);
  }
  for (const wire::Job& job : status.active_jobs()) {
    if (!WaitReason(job).empty()) StrAppend(&out, "job ", job.job(), " ", job.state(), ": ", WaitReason(job), "\n");
  }
  return out;
}

}  // namespace tandem::cli
