// Measuring from the server's side: children are started, and what they left is read.
#include <algorithm>

#include "base/files.h"
#include "base/status.h"
#include "engine/child.h"
#include "engine/measure.h"

namespace tandem::engine {
namespace {

constexpr int64_t kMaxSourceBytes = 4096;
constexpr std::string_view kHint = "the engine has a fault, or the file is damaged";

absl::Status RunHost(const SpawnFunction& spawn, const PreparedModel& model, std::string_view command,
                     std::string_view doing, std::vector<std::string> more, double timeout_s) {
  std::vector<std::string> argv = HostArguments(command, model.engine, model.options);
  argv.insert(argv.end(), {"--folder", model.folder.string()});
  std::ranges::move(more, std::back_inserter(argv));
  TANDEM_ASSIGN_OR_RETURN(ChildResult child, spawn(argv, timeout_s));
  return CheckChild(child, StrCat(doing, " engine '", model.engine, "'"), kHint, timeout_s);
}

}  // namespace

absl::StatusOr<std::string> SampleInChild(const SpawnFunction& spawn, const PreparedModel& model, int batch,
                                          const std::filesystem::path& dataset, const std::filesystem::path& out,
                                          double timeout_s) {
  std::vector<std::string> more = {"--batch", StrCat(batch), "--out", out.string()};
  if (!dataset.empty()) more.insert(more.end(), {"--dataset", dataset.string()});
  TANDEM_RETURN_IF_ERROR(RunHost(spawn, model, "samples", "making samples with", std::move(more), timeout_s));
  return ReadFile(SourceFile(out), kMaxSourceBytes);
}

absl::StatusOr<wire::Measurement> MeasureInChild(const SpawnFunction& spawn, const PreparedModel& model,
                                                 const MeasureFiles& files, double timeout_s) {
  const std::filesystem::path out = files.outputs.string() + ".json";
  std::vector<std::string> more = {"--samples", files.samples.string(), "--outputs", files.outputs.string(), "--out",
                                   out.string()};
  if (!files.reference.empty()) more.insert(more.end(), {"--reference", files.reference.string()});
  TANDEM_RETURN_IF_ERROR(RunHost(spawn, model, "measure", "measuring", std::move(more), timeout_s));
  wire::Measurement found;
  TANDEM_RETURN_IF_ERROR(Annotate(ReadJson(out, &found), "tandem-engine-host left no readable measurement"));
  return found;
}

}  // namespace tandem::engine
