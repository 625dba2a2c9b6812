// The checks before the first step.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "base/status.h"
#include "training/out_of_memory.h"
#include "training/trainer.h"

namespace tandem::training {
namespace {

absl::StatusOr<graph::Graph> LoadGraph(const TrainerInputs& inputs, const data::Dataset& dataset) {
  if (!inputs.model_path.empty()) return graph::Graph::Load(inputs.model_path);
  const spec::ModelSpec& model = inputs.spec.model;
  graph::Architecture architecture{.name = model.architecture,
                                   .input = model.input.empty() ? dataset.shape() : model.input,
                                   .classes = model.classes > 0 ? model.classes : dataset.classes(),
                                   .seed = inputs.spec.seed};
  TANDEM_ASSIGN_OR_RETURN(std::string bytes, graph::MakeModel(architecture));
  return graph::Graph::Parse(std::move(bytes), StrCat("architecture ", model.architecture));
}

bool Fits(const Shape& wanted, const Shape& sample) {
  if (wanted.size() != sample.size() + 1) return false;
  for (size_t i = 0; i < sample.size(); ++i) {
    if (wanted[i + 1] >= 0 && wanted[i + 1] != sample[i]) return false;
  }
  return true;
}

absl::Status CheckInput(const graph::Graph& graph, const data::Dataset& dataset) {
  if (graph.inputs().size() != 1) {
    return InvalidArgument("the model has ", graph.inputs().size(), " inputs, training needs exactly 1");
  }
  if (graph.outputs().empty()) return InvalidArgument("the model has no output");
  const TensorSignature& input = graph.inputs()[0];
  if (input.dtype != DType::kFloat32 && input.dtype != DType::kFloat16 && input.dtype != DType::kFloat64) {
    return InvalidArgument("the model's input '", input.name, "' is ", ProtocolName(input.dtype),
                           ", the data set delivers floats");
  }
  // A rank that is not known is tried out by the probe.
  if (input.shape.empty() || Fits(input.shape, dataset.shape())) return absl::OkStatus();
  return InvalidArgument("the data set does not fit the model: its samples are ", ToString(dataset.shape()),
                         ", the model's input '", input.name, "' takes ", ToString(input.shape),
                         " (batch first, -1 = any)");
}

// Runs two empty samples: what the shapes in the file do not say comes out here.
absl::Status CheckOutput(const Model& model, const spec::TrainSpec& spec, const data::Dataset& dataset) {
  Shape shape = {2};
  shape.insert(shape.end(), dataset.shape().begin(), dataset.shape().end());
  at::NoGradGuard no_grad;
  auto outputs = model.program().Run({at::zeros(shape, at::kFloat)}, model.values(), {});
  if (!outputs.ok()) {
    return Annotate(outputs.status(), StrCat("the model does not run on a batch of shape ", ToString(shape),
                                             " (export it with a free batch dimension)"));
  }
  const at::Tensor& logits = outputs->at(0);
  if (logits.dim() != 2 || logits.size(0) != 2) {
    return InvalidArgument("the model's output '", model.graph().outputs()[0].name, "' has shape ",
                           ToString(logits.sizes().vec()), " for 2 samples, classification needs [2,classes]");
  }
  int64_t expected = spec.model.classes > 0 ? spec.model.classes : dataset.classes();
  if (logits.size(1) != expected || expected < dataset.classes()) {
    return InvalidArgument("the data set does not fit the model: the model gives ", logits.size(1),
                           " numbers a sample, the data set has ", dataset.classes(), " classes",
                           spec.model.classes > 0 ? StrCat(" and model.classes is ", spec.model.classes) : "");
  }
  return absl::OkStatus();
}

// Only what changes the numbers: another thread count or checkpoint interval goes on from the same checkpoint.
std::string Fingerprint(const TrainerInputs& inputs, const Model& model, int64_t samples) {
  spec::TrainSpec spec = inputs.spec;
  spec.name.clear();
  spec.priority = 0;
  spec.resources = {};
  spec.window.clear();
  spec.recurring.reset();
  spec.time_limit_s = 0;
  spec.checkpoint = {};
  spec.register_as.reset();
  return Sha256Hex(StrCat(spec::ToYaml(spec), "\nmodel ", Sha256Hex(model.graph().bytes()), "\ndata ",
                          inputs.dataset.sha256(), " ", samples));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(TrainerInputs inputs) {
  auto trainer = CatchToStatus("preparing the job", [&] { return Prepare(std::move(inputs)); });
  if (!trainer.ok()) return ExplainOutOfMemory(trainer.status());
  return trainer;
}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Prepare(TrainerInputs inputs) {
  TANDEM_ASSIGN_OR_RETURN(auto train, data::Open(inputs.dataset, data::Split::kTrain));
  TANDEM_ASSIGN_OR_RETURN(auto val, data::Open(inputs.dataset, data::Split::kVal));
  if (train->size() == 0) return InvalidArgument("data set '", inputs.dataset.name(), "' has no sample to train on");
  TANDEM_ASSIGN_OR_RETURN(graph::Graph graph, LoadGraph(inputs, *train));
  TANDEM_RETURN_IF_ERROR(CheckInput(graph, *train));
  Precision precision = ResolvePrecision(inputs.spec.precision);
  TANDEM_ASSIGN_OR_RETURN(Model model, Model::Create(graph, inputs.spec, precision.weights));
  TANDEM_RETURN_IF_ERROR(CheckOutput(model, inputs.spec, *train));
  std::unique_ptr<Trainer> trainer(
      new Trainer(std::move(inputs), std::move(precision), std::move(model), std::move(train), std::move(val)));
  if (const auto& word = trainer->inputs_.pressure_file; !word.empty()) {
    TANDEM_ASSIGN_OR_RETURN(trainer->gate_, GateWatcher::Open(word, &trainer->pool_));
  }
  return trainer;
}

Trainer::Trainer(TrainerInputs inputs, Precision precision, Model model, std::unique_ptr<data::Dataset> train,
                 std::unique_ptr<data::Dataset> val)
    : inputs_(std::move(inputs)),
      precision_(std::move(precision)),
      model_(std::move(model)),
      train_(std::move(train)),
      val_(std::move(val)),
      fingerprint_(Fingerprint(inputs_, model_, train_->size())),
      plan_(train_->size(), inputs_.spec),
      optimizer_(MakeOptimizer(inputs_.spec.optimizer, model_.weights())),
      pool_(inputs_.threads),
      pace_(inputs_.disk_write_bytes_per_s) {}

}  // namespace tandem::training
