#include "serving/load.h"

#include <algorithm>

#include "base/files.h"
#include "base/status.h"
#include "engine/remote.h"
#include "serving/instance_pool.h"
#include "serving/sequences.h"

namespace tandem::serving {

bool RunsInChild(const DesiredVersion& spec) {
  return spec.config.isolation == "process" || engine::NeedsChild(spec.engine);
}

namespace {

absl::StatusOr<wire::Prepared> ReadWhatIsPrepared(const DesiredVersion& spec) {
  if (RunsInChild(spec)) return engine::ReadPrepared(spec.prepared_folder, spec.engine, spec.options);
  TANDEM_ASSIGN_OR_RETURN(engine::Engine * engine, engine::OpenEngine(spec.engine));
  return engine::ReadPrepared(spec.prepared_folder, *engine, spec.options);
}

absl::StatusOr<double> ReadEstimate(const DesiredVersion& spec) {
  if (RunsInChild(spec)) {
    TANDEM_ASSIGN_OR_RETURN(wire::Prepared prepared, ReadWhatIsPrepared(spec));
    return prepared.memory_bytes();
  }
  TANDEM_ASSIGN_OR_RETURN(engine::Engine * engine, engine::OpenEngine(spec.engine));
  TANDEM_ASSIGN_OR_RETURN(const uint64_t bytes, engine->Estimate(spec.prepared_folder));
  return static_cast<double>(bytes);
}

// Bytes of one instance. A child wrote them, or an engine of somebody else's counted them: what no machine has would
// overflow the sums, and a negative number would pass every limit.
absl::StatusOr<int64_t> Estimate(const DesiredVersion& spec) {
  constexpr double kMostBytes = int64_t{1} << 50;
  TANDEM_ASSIGN_OR_RETURN(const double bytes, ReadEstimate(spec));
  if (bytes >= 0 && bytes <= kMostBytes) return static_cast<int64_t>(bytes);
  return InvalidArgument("what engine '", spec.engine, "' prepared in '", spec.prepared_folder.string(), "' takes ",
                         bytes, " bytes of memory, which cannot be");
}

absl::StatusOr<std::unique_ptr<engine::LoadedModel>> LoadModel(const Slots::Task& task, const LoadContext& context) {
  const DesiredVersion& spec = task.spec;
  if (RunsInChild(spec)) {
    return engine::LoadRemote({.what = StrCat("model '", task.model, "' version ", spec.version),
                               .engine = spec.engine,
                               .folder = spec.prepared_folder,
                               .options = spec.options,
                               .load_timeout_s = context.settings.prepare_timeout_s,
                               .run_timeout_s = spec.config.run_timeout_s,
                               .spawn = context.settings.spawn_service,
                               .cpu = {context.metrics, &context.metrics->child_cpu},
                               .clock = context.clock});
  }
  TANDEM_ASSIGN_OR_RETURN(engine::Engine * engine, engine::OpenEngine(spec.engine));
  return engine->Load(spec.prepared_folder, spec.options);
}

absl::StatusOr<std::unique_ptr<Version>> LoadPrepared(const Slots::Task& task, const LoadContext& context,
                                                      int64_t* memory_bytes) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t one, Estimate(task.spec));
  *memory_bytes = one * std::clamp(task.spec.config.instances, 1, InstancePool::kMax);
  TANDEM_RETURN_IF_ERROR(context.reserve(task, *memory_bytes));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<engine::LoadedModel> loaded, LoadModel(task, context));
  context.metrics->disk_read_bytes.Add(BytesBelow(task.spec.prepared_folder));
  TANDEM_ASSIGN_OR_RETURN(auto version, Version::Create(task.model, task.spec, std::move(loaded), context.settings,
                                                        context.plane, context.clock, context.metrics));
  // With one it would hold up what two served before, until the requests that wait have made it grow.
  while (version->instances() < task.instances && context.fits(*memory_bytes + one) && version->AddInstance()) {
    *memory_bytes += one;
  }
  return version;
}

absl::Status Prepare(const DesiredVersion& spec, const LoadContext& context) {
  TANDEM_RETURN_IF_ERROR(engine::PrepareInChild(context.spawn, spec.engine, spec.model_path, spec.prepared_folder,
                                                spec.options, context.settings.prepare_timeout_s)
                             .status());
  std::error_code error;
  const uintmax_t read = std::filesystem::file_size(spec.model_path, error);
  if (!error) context.metrics->disk_read_bytes.Add(read);
  context.metrics->disk_written_bytes.Add(BytesBelow(spec.prepared_folder));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Version>> Load(const Slots::Task& task, const LoadContext& context,
                                              int64_t* memory_bytes) {
  const DesiredVersion& spec = task.spec;
  if (!RunsInChild(spec)) TANDEM_RETURN_IF_ERROR(engine::OpenEngine(spec.engine).status());
  bool was_prepared = ReadWhatIsPrepared(spec).ok();
  if (!was_prepared) TANDEM_RETURN_IF_ERROR(Prepare(spec, context));
  absl::StatusOr<std::unique_ptr<Version>> version = LoadPrepared(task, context, memory_bytes);
  if (version.ok() || !was_prepared || absl::IsResourceExhausted(version.status())) return version;
  // What an earlier run left may be damaged: make it once more.
  TANDEM_RETURN_IF_ERROR(Prepare(spec, context));
  return LoadPrepared(task, context, memory_bytes);
}

std::vector<TensorSignature> ToSignature(const google::protobuf::RepeatedPtrField<wire::TensorInfo>& tensors) {
  std::vector<TensorSignature> signature;
  for (const wire::TensorInfo& tensor : tensors) {
    signature.push_back(
        {tensor.name(), DTypeFromProtocolName(tensor.datatype()), Shape(tensor.shape().begin(), tensor.shape().end())});
  }
  return signature;
}

}  // namespace

std::shared_ptr<const LazySignature> ReadSignature(const std::string& model, const DesiredVersion& spec) {
  absl::StatusOr<wire::Prepared> prepared = ReadWhatIsPrepared(spec);
  if (!prepared.ok()) return nullptr;
  LazySignature signature{ToSignature(prepared->inputs()), ToSignature(prepared->outputs())};
  if (!spec.config.sequence.strategy.empty()) {
    absl::StatusOr<SequenceLayout> layout =
        SequenceLayout::Create(model, spec.config, signature.inputs, signature.outputs);
    if (!layout.ok()) return nullptr;  // loading it will say why
    signature = {std::move(layout->client_inputs), std::move(layout->client_outputs)};
  }
  return std::make_shared<const LazySignature>(std::move(signature));
}

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
    context.metrics->in_child = RunsInChild(task.spec);
  }
  return result;
}

}  // namespace tandem::serving
