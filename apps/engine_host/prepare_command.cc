#include "prepare_command.h"

#include "base/clock.h"
#include "base/status.h"
#include "engine/prepared.h"
#include "engine/warm_up.h"
#include "own_writes.h"
#include "serving_form.h"

namespace {

using tandem::engine::Engine;
using tandem::engine::LoadedModel;

void AddTensors(const std::vector<tandem::TensorSignature>& from,
                google::protobuf::RepeatedPtrField<tandem::wire::TensorInfo>* to) {
  for (const tandem::TensorSignature& tensor : from) {
    tandem::wire::TensorInfo* info = to->Add();
    info->set_name(tensor.name);
    info->set_datatype(std::string(tandem::ProtocolName(tensor.dtype)));
    for (int64_t dim : tensor.shape) info->add_shape(static_cast<int32_t>(dim));
  }
}

}  // namespace

absl::Status PrepareModel(const PrepareArguments& arguments) {
  int64_t begin = tandem::Clock::Real()->MonotonicNanos();
  TANDEM_ASSIGN_OR_RETURN(Engine * engine, tandem::engine::OpenEngine(arguments.engine));
  TANDEM_RETURN_IF_ERROR(PrepareForServing(*engine, arguments.model, arguments.folder, arguments.options));
  TANDEM_RETURN_IF_ERROR(SyncFilesBelow(arguments.folder));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model, engine->Load(arguments.folder, arguments.options));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<tandem::engine::Instance> instance, model->MakeInstance());
  absl::Status warm = tandem::engine::WarmUp(*model, instance.get());
  if (!warm.ok() && !tandem::engine::IsSizeGuessed(*model)) return warm;
  TANDEM_ASSIGN_OR_RETURN(uint64_t bytes, engine->Estimate(arguments.folder));

  tandem::wire::Prepared prepared;
  prepared.set_engine(engine->name());
  prepared.set_engine_version(engine->version());
  prepared.set_precision(arguments.options.precision);
  prepared.set_device(arguments.options.device);
  AddTensors(model->inputs(), prepared.mutable_inputs());
  AddTensors(model->outputs(), prepared.mutable_outputs());
  prepared.set_memory_bytes(static_cast<double>(bytes));
  prepared.set_seconds(static_cast<double>(tandem::Clock::Real()->MonotonicNanos() - begin) / 1e9);
  return tandem::engine::WritePrepared(arguments.folder, prepared);
}
