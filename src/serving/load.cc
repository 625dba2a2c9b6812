#include "serving/load.h"

#include "absl/strings/str_join.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem::serving {
namespace {

absl::Status CheckMemory(const Slots::Task& task, int64_t needed, const LoadContext& context) {
  int64_t limit = context.settings.memory_limit_bytes;
  if (limit == 0) return absl::OkStatus();
  int64_t taken = 0;
  std::vector<std::string> holders;
  for (const VersionStatus& status : context.in_memory) {
    taken += status.memory_bytes;
    holders.push_back(StrCat("'", status.model, "' version ", status.version, " (", HumanBytes(status.memory_bytes),
                             status.state == VersionState::kUnloading ? ", being unloaded)" : ")"));
  }
  if (needed <= limit - taken) return absl::OkStatus();
  std::string advice =
      holders.empty() ? "; raise the limit" : StrCat("; unload one of ", absl::StrJoin(holders, ", "), ", or raise it");
  return ResourceExhausted("model '", task.model, "' version ", task.spec.version, " needs ", HumanBytes(needed),
                           " of memory, and ", HumanBytes(taken), " of the limit of ", HumanBytes(limit), " are taken",
                           advice);
}

absl::StatusOr<std::unique_ptr<Version>> LoadPrepared(const Slots::Task& task, engine::Engine* engine,
                                                      const LoadContext& context, int64_t* memory_bytes) {
  TANDEM_ASSIGN_OR_RETURN(uint64_t bytes, engine->Estimate(task.spec.prepared_folder));
  *memory_bytes = static_cast<int64_t>(bytes) * context.settings.instances;
  TANDEM_RETURN_IF_ERROR(CheckMemory(task, *memory_bytes, context));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<engine::LoadedModel> loaded,
                          engine->Load(task.spec.prepared_folder, task.spec.options));
  return Version::Create(task.model, task.spec, std::move(loaded), context.settings, context.clock, context.metrics);
}

absl::Status Prepare(const DesiredVersion& spec, const LoadContext& context) {
  return engine::PrepareInChild(context.spawn, spec.engine, spec.model_path, spec.prepared_folder, spec.options,
                                context.settings.prepare_timeout_s)
      .status();
}

absl::StatusOr<std::unique_ptr<Version>> Load(const Slots::Task& task, const LoadContext& context,
                                              int64_t* memory_bytes) {
  const DesiredVersion& spec = task.spec;
  TANDEM_ASSIGN_OR_RETURN(engine::Engine * engine, engine::OpenEngine(spec.engine));
  bool was_prepared = engine::ReadPrepared(spec.prepared_folder, *engine, spec.options).ok();
  if (!was_prepared) TANDEM_RETURN_IF_ERROR(Prepare(spec, context));
  absl::StatusOr<std::unique_ptr<Version>> version = LoadPrepared(task, engine, context, memory_bytes);
  if (version.ok() || !was_prepared || absl::IsResourceExhausted(version.status())) return version;
  // What an earlier run left may be damaged: make it once more.
  TANDEM_RETURN_IF_ERROR(Prepare(spec, context));
  return LoadPrepared(task, engine, context, memory_bytes);
}

}  // namespace

LoadResult LoadVersion(const Slots::Task& task, const LoadContext& context) {
  LoadResult result;
  int64_t begin = context.clock->MonotonicNanos();
  absl::StatusOr<std::unique_ptr<Version>> version =
      CatchToStatus("loading", [&] { return Load(task, context, &result.memory_bytes); });
  result.seconds = static_cast<double>(context.clock->MonotonicNanos() - begin) / 1e9;
  result.status = version.status();
  if (version.ok()) {
    result.version = std::move(*version);
    context.metrics->load_seconds.Set(result.seconds);
  }
  return result;
}

}  // namespace tandem::serving
