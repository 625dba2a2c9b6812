#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "interpreter/interpreter.h"
#include "interpreter/plan.h"
#include "interpreter/values.h"

namespace tandem::interpreter {

struct Program::Rep {
  Plan plan;
};

namespace {

std::string ShapeText(const at::Tensor& tensor) { return ToString(tensor.sizes().vec()); }

// The first dimension is the batch and may differ from the file's.
bool FitsSignature(const at::Tensor& tensor, const TensorSignature& signature) {
  if (tensor.dim() != static_cast<int64_t>(signature.shape.size())) return false;
  for (size_t i = 1; i < signature.shape.size(); ++i) {
    if (signature.shape[i] >= 0 && tensor.size(static_cast<int64_t>(i)) != signature.shape[i]) return false;
  }
  return true;
}

absl::StatusOr<at::Tensor> PrepareInput(const at::Tensor& input, const TensorSignature& signature,
                                        const Program::Options& options) {
  if (!input.defined()) return InvalidArgument("input '", signature.name, "' is missing");
  if (!FitsSignature(input, signature)) {
    return InvalidArgument("input '", signature.name, "' has shape ", ShapeText(input), ", the graph takes ",
                           ToString(signature.shape));
  }
  const at::ScalarType type = *ToScalarType(signature.dtype, options.dtype);
  const bool converts = at::isFloatingType(type) && at::isFloatingType(input.scalar_type());
  if (input.scalar_type() != type && !converts) {
    return InvalidArgument("input '", signature.name, "' holds ", c10::toString(input.scalar_type()),
                           ", the graph takes ", c10::toString(type));
  }
  const at::Tensor typed = input.to(type);
  if (options.channels_last && typed.dim() == 4 && at::isFloatingType(type)) return ToChannelsLast(typed);
  return typed;
}

absl::Status BindInputs(const Plan& plan, const std::vector<at::Tensor>& inputs, std::vector<at::Tensor>* values) {
  if (inputs.size() != plan.inputs.size()) {
    return InvalidArgument("the graph takes ", plan.inputs.size(), " inputs, got ", inputs.size());
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN((*values)[static_cast<size_t>(plan.input_slots[i])],
                            PrepareInput(inputs[i], plan.inputs[i], plan.options));
  }
  return absl::OkStatus();
}

absl::Status BindWeights(const Plan& plan, const Values& weights, std::vector<at::Tensor>* values) {
  size_t found = 0;
  for (const Plan::Weight& weight : plan.weights) {
    at::Tensor& slot = (*values)[static_cast<size_t>(weight.slot)];
    const auto it = weights.find(weight.name);
    if (it == weights.end()) {
      slot = weight.value;
      continue;
    }
    ++found;
    if (!it->second.defined() || it->second.sizes() != weight.value.sizes() ||
        it->second.scalar_type() != weight.value.scalar_type()) {
      return InvalidArgument("weight '", weight.name, "' must be ", c10::toString(weight.value.scalar_type()), " ",
                             ShapeText(weight.value));
    }
    slot = it->second;
  }
  if (found == weights.size()) return absl::OkStatus();
  for (const auto& weight : weights) {
    const bool known =
        std::any_of(plan.weights.begin(), plan.weights.end(), [&](const auto& w) { return w.name == weight.first; });
    if (!known) return InvalidArgument("weight '", weight.first, "' is no float initialiser of the graph");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<at::Tensor>> RunPlan(const Plan& plan, const std::vector<at::Tensor>& inputs,
                                                const Values& weights, const RunOptions& options,
                                                const Plan::Step** current) {
  std::vector<at::Tensor> values(static_cast<size_t>(plan.slots));
  TANDEM_RETURN_IF_ERROR(BindInputs(plan, inputs, &values));
  TANDEM_RETURN_IF_ERROR(BindWeights(plan, weights, &values));
  for (const Plan::Constant& constant : plan.constants) values[static_cast<size_t>(constant.slot)] = constant.value;
  if (options.statistics != nullptr) options.statistics->clear();
  const bool batched = !inputs.empty() && inputs[0].dim() > 0;
  const RunState state{.options = options, .batch = batched ? inputs[0].size(0) : 1};
  for (const Plan::Step& step : plan.steps) {
    *current = &step;
    RunStep(step, state, &values);
  }
  std::vector<at::Tensor> outputs;
  for (size_t i = 0; i < plan.output_slots.size(); ++i) {
    outputs.push_back(values[static_cast<size_t>(plan.output_slots[i])]);
    if (!outputs.back().defined()) return InvalidArgument("output '", plan.output_names[i], "' was not made");
  }
  return outputs;
}

}  // namespace

Program::Program(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
Program::Program(Program&&) noexcept = default;
Program::~Program() = default;

absl::StatusOr<Program> Program::Create(const graph::Graph& graph, const Options& options) {
  if (!at::isFloatingType(options.dtype)) return InvalidArgument("dtype of a program must be a float type");
  return CatchToStatus("compiling the graph", [&]() -> absl::StatusOr<Program> {
    TANDEM_ASSIGN_OR_RETURN(Plan plan, Compile(graph, options));
    return Program(std::make_unique<Rep>(Rep{std::move(plan)}));
  });
}

Values Program::InitialWeights() const {
  Values weights;
  for (const Plan::Weight& weight : rep_->plan.weights) weights.emplace(weight.name, weight.value.clone());
  return weights;
}

absl::StatusOr<std::vector<at::Tensor>> Program::Run(const std::vector<at::Tensor>& inputs, const Values& weights,
                                                     const RunOptions& options) const {
  const Plan::Step* current = nullptr;
  try {
    return RunPlan(rep_->plan, inputs, weights, options, &current);
  } catch (const std::exception& error) {
    const std::string where = current == nullptr ? "inputs" : StrCat("node ", current->label);
    return InvalidArgument(where, ": ", ShortMessage(error));
  }
}

}  // namespace tandem::interpreter
