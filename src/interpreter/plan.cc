#include "interpreter/plan.h"

#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/status.h"
#include "base/strings.h"
#include "graph/names.h"
#include "interpreter/node.h"
#include "interpreter/values.h"
#include "onnx-ml.pb.h"

namespace tandem::interpreter {
namespace {

using NameMap = std::map<std::string, std::string, std::less<>>;

bool IsOnnx(const onnx::NodeProto& node) { return node.domain().empty() || node.domain() == "ai.onnx"; }
bool IsOp(const onnx::NodeProto& node, std::string_view op) {
  return IsOnnx(node) && node.op_type() == op && node.input_size() > 0 && node.output_size() > 0;
}

class Compiler {
 public:
  Compiler(const graph::Graph& graph, const Program::Options& options) : graph_(graph), nodes_(graph.model().graph()) {
    plan_.options = options;
  }

  absl::StatusOr<Plan> Compile() {
    FollowIdentities();
    ChooseOutputs();
    MarkLive();
    CountReaders();
    PlaceInputs();
    PlaceInitializers();
    for (int i = 0; i < nodes_.node_size(); ++i) {
      if (live_[static_cast<size_t>(i)]) AddStep(nodes_.node(i));
    }
    for (const std::string& name : plan_.output_names)
      plan_.output_slots.push_back(SlotOf(name, "the graph's outputs"));
    if (!problems_.empty()) return Report();
    TANDEM_RETURN_IF_ERROR(FoldConstants());
    PlanFreeing();
    return std::move(plan_);
  }

 private:
  // Which initialiser stands behind a value, directly or through Identity nodes.
  void FollowIdentities() {
    for (const auto& initializer : graph_.initializers()) initializer_of_.emplace(initializer.name, initializer.name);
    for (const onnx::NodeProto& node : nodes_.node()) {
      if (!IsOp(node, "Identity")) continue;
      if (auto it = initializer_of_.find(node.input(0)); it != initializer_of_.end()) {
        initializer_of_.emplace(node.output(0), it->second);
      }
    }
  }

  // The output's value; with skip_final_softmax what goes into the Softmax over classes that makes it.
  void ChooseOutputs() {
    std::map<std::string_view, const onnx::NodeProto*> makers;
    for (const onnx::NodeProto& node : nodes_.node()) {
      for (const std::string& output : node.output()) makers.emplace(output, &node);
    }
    for (const auto& output : graph_.outputs()) {
      std::string name = output.name;
      for (auto it = makers.find(name); plan_.options.skip_final_softmax; it = makers.find(it->second->input(0))) {
        if (it == makers.end() || (!IsOp(*it->second, "Identity") && !IsClassSoftmax(*it->second))) break;
        if (IsOp(*it->second, "Identity")) continue;
        name = it->second->input(0);
        break;
      }
      plan_.output_names.push_back(name);
    }
  }

  bool IsClassSoftmax(const onnx::NodeProto& proto) const {
    if (!IsOp(proto, "Softmax") && !IsOp(proto, "LogSoftmax")) return false;
    Node node(proto, {});
    const int64_t axis = node.Int("axis", graph_.opset() < 13 ? 1 : -1);
    return axis == 1 || axis == -1;
  }

  void MarkLive() {
    std::set<std::string_view> needed(plan_.output_names.begin(), plan_.output_names.end());
    live_.resize(static_cast<size_t>(nodes_.node_size()));
    for (int i = nodes_.node_size() - 1; i >= 0; --i) {
      const onnx::NodeProto& node = nodes_.node(i);
      for (const std::string& output : node.output()) {
        if (!output.empty() && needed.contains(output)) live_[static_cast<size_t>(i)] = true;
      }
      if (live_[static_cast<size_t>(i)]) needed.insert(node.input().begin(), node.input().end());
    }
    needed_ = std::move(needed);
  }

  void CountReaders() {
    auto count = [this](const std::string& value) {
      if (const auto it = initializer_of_.find(value); it != initializer_of_.end()) ++readers_of_[it->second];
    };
    for (int i = 0; i < nodes_.node_size(); ++i) {
      if (!live_[static_cast<size_t>(i)] || IsOp(nodes_.node(i), "Identity")) continue;
      for (const std::string& input : nodes_.node(i).input()) count(input);
    }
    for (const std::string& output : plan_.output_names) count(output);
  }

  int NewSlot(const std::string& name) {
    slot_of_[name] = plan_.slots;
    return plan_.slots++;
  }

  int SlotOf(const std::string& name, std::string_view where) {
    if (name.empty()) return Plan::kAbsent;
    if (const auto it = slot_of_.find(name); it != slot_of_.end()) return it->second;
    problems_.push_back(StrCat(where, " take '", name, "', which nothing makes"));
    return Plan::kAbsent;
  }

  void PlaceInputs() {
    plan_.inputs = graph_.inputs();
    for (const TensorSignature& input : plan_.inputs) {
      plan_.input_slots.push_back(NewSlot(input.name));
      if (!ToScalarType(input.dtype)) problems_.push_back(StrCat("input '", input.name, "' holds no numbers"));
    }
  }

  void PlaceInitializers() {
    std::set<std::string_view> convolution_weights;
    for (const onnx::NodeProto& node : nodes_.node()) {
      if (!IsOp(node, "Conv") || node.input_size() < 2) continue;
      if (auto it = initializer_of_.find(node.input(1)); it != initializer_of_.end()) {
        convolution_weights.insert(it->second);
      }
    }
    for (const auto& initializer : graph_.initializers()) {
      const auto type = ToScalarType(initializer.dtype, plan_.options.dtype);
      if (!type) {
        if (needed_.contains(initializer.name)) {
          problems_.push_back(StrCat("initialiser '", initializer.name, "' holds no numbers"));
        }
        continue;
      }
      at::Tensor value = CopyToTensor(initializer.dtype, initializer.shape, initializer.data).to(*type);
      const bool nhwc =
          plan_.options.channels_last && value.dim() == 4 && convolution_weights.contains(initializer.name);
      if (nhwc) value = ToChannelsLast(value);
      const int slot = NewSlot(initializer.name);
      if (at::isFloatingType(*type)) {
        plan_.weights.push_back({initializer.name, slot, std::move(value)});
      } else {
        plan_.constants.push_back({slot, std::move(value)});
      }
    }
  }

  NodeContext ContextOf(const onnx::NodeProto& node) const {
    NodeContext context{.opset = graph_.opset(), .float_type = plan_.options.dtype};
    for (const std::string& input : node.input()) {
      const auto it = initializer_of_.find(input);
      context.initializers.push_back(it == initializer_of_.end() ? "" : it->second);
      context.own.push_back(it != initializer_of_.end() && readers_of_.at(it->second) == 1);
    }
    for (const std::string& output : node.output()) context.used.push_back(!output.empty() && needed_.contains(output));
    return context;
  }

  bool CheckInputs(const Operator& op, const onnx::NodeProto& proto, Node* node) {
    if (proto.input_size() < op.min_inputs || proto.input_size() > op.max_inputs ||
        proto.output_size() > op.max_outputs) {
      node->Unsupported(StrCat(proto.input_size(), " inputs and ", proto.output_size(), " outputs"));
      return false;
    }
    const int required = op.max_inputs == kAnyNumber ? proto.input_size() : op.min_inputs;
    for (int i = 0; i < required; ++i) {
      if (!proto.input(i).empty()) continue;
      node->Unsupported(StrCat("input ", i, " is left out"));
      return false;
    }
    return true;
  }

  void AddStep(const onnx::NodeProto& proto) {
    Node node(proto, ContextOf(proto));
    const Operator* op = IsOnnx(proto) ? FindOperator(proto.op_type()) : nullptr;
    Plan::Step step{.label = node.label()};
    for (const std::string& input : proto.input())
      step.inputs.push_back(SlotOf(input, StrCat("the inputs of node ", node.label())));
    for (int i = 0; i < proto.output_size(); ++i) {
      const int slot = proto.output(i).empty() ? Plan::kAbsent : NewSlot(proto.output(i));
      step.outputs.push_back(node.Uses(static_cast<size_t>(i)) ? slot : Plan::kAbsent);
    }
    if (op == nullptr) {
      const std::string domain = IsOnnx(proto) ? "" : StrCat(" of domain '", proto.domain(), "'");
      problems_.push_back(
          StrCat("node ", node.label(), ": operator ", graph::Shown(proto.op_type()), domain, " is not supported"));
      return;
    }
    if (CheckInputs(*op, proto, &node)) {
      step.kernel = op->factory(node);
      operators_.push_back(op);
      plan_.steps.push_back(std::move(step));
    }
    for (std::string& problem : node.Problems()) problems_.push_back(std::move(problem));
  }

  absl::Status Report() const {
    constexpr size_t kMost = 50;
    std::string list;
    for (size_t i = 0; i < std::min(problems_.size(), kMost); ++i) {
      StrAppend(&list, i == 0 ? "" : "; ", problems_[i]);
    }
    if (problems_.size() > kMost) StrAppend(&list, "; and ", problems_.size() - kMost, " more");
    return InvalidArgument("the model cannot be run for training: ", list);
  }

  // Runs, once, whatever depends on constants alone. Float initialisers are no constants: training may change them.
  absl::Status FoldConstants() {
    const c10::NoGradGuard no_grad;
    std::vector<at::Tensor> values(static_cast<size_t>(plan_.slots));
    std::set<int> known = {Plan::kAbsent};
    for (const Plan::Constant& constant : plan_.constants) {
      values[static_cast<size_t>(constant.slot)] = constant.value;
      known.insert(constant.slot);
    }
    std::vector<Plan::Step> remaining;
    for (size_t i = 0; i < plan_.steps.size(); ++i) {
      Plan::Step& step = plan_.steps[i];
      const bool constant =
          std::all_of(step.inputs.begin(), step.inputs.end(), [&](int s) { return known.contains(s); });
      if (!constant || operators_[i]->depends_on_run) {
        remaining.push_back(std::move(step));
        continue;
      }
      try {
        RunStep(step, {RunOptions()}, &values);
      } catch (const std::exception& error) {
        return InvalidArgument("node ", step.label, ": ", ShortMessage(error));
      }
      known.insert(step.outputs.begin(), step.outputs.end());
    }
    plan_.steps = std::move(remaining);
    KeepReadConstants(known, values);
    return absl::OkStatus();
  }

  void KeepReadConstants(const std::set<int>& known, const std::vector<at::Tensor>& values) {
    std::set<int> read(plan_.output_slots.begin(), plan_.output_slots.end());
    for (const Plan::Step& step : plan_.steps) read.insert(step.inputs.begin(), step.inputs.end());
    plan_.constants.clear();
    for (const int slot : known) {
      if (slot != Plan::kAbsent && read.contains(slot))
        plan_.constants.push_back({slot, values[static_cast<size_t>(slot)]});
    }
  }

  void PlanFreeing() {
    std::set<int> later(plan_.output_slots.begin(), plan_.output_slots.end());
    later.insert(Plan::kAbsent);
    for (auto step = plan_.steps.rbegin(); step != plan_.steps.rend(); ++step) {
      for (const int slot : step->inputs) {
        if (later.insert(slot).second) step->free.push_back(slot);
      }
    }
  }

  const graph::Graph& graph_;
  const onnx::GraphProto& nodes_;
  Plan plan_;
  NameMap initializer_of_;
  std::map<std::string, int, std::less<>> readers_of_;  // initialisers: live nodes (Identity is none) and outputs
  std::map<std::string, int, std::less<>> slot_of_;
  std::set<std::string_view> needed_;  // names that a live node or an output reads
  std::vector<bool> live_;
  std::vector<const Operator*> operators_;  // of plan_.steps
  std::vector<std::string> problems_;
};

}  // namespace

std::string ShortMessage(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = torch != nullptr ? torch->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

void RunStep(const Plan::Step& step, const RunState& state, std::vector<at::Tensor>* values) {
  constexpr size_t kUsual = 8;
  const at::Tensor* few[kUsual];
  std::vector<const at::Tensor*> many;
  const at::Tensor** inputs = few;
  if (step.inputs.size() > kUsual) {
    many.resize(step.inputs.size());
    inputs = many.data();
  }
  for (size_t i = 0; i < step.inputs.size(); ++i) inputs[i] = &(*values)[static_cast<size_t>(step.inputs[i])];
  std::vector<at::Tensor> outputs = step.kernel(Inputs({inputs, step.inputs.size()}), state);
  for (size_t i = 0; i < step.outputs.size() && i < outputs.size(); ++i) {
    if (step.outputs[i] != Plan::kAbsent) (*values)[static_cast<size_t>(step.outputs[i])] = std::move(outputs[i]);
  }
  for (const int slot : step.free) (*values)[static_cast<size_t>(slot)] = at::Tensor();
}

absl::StatusOr<Plan> Compile(const graph::Graph& graph, const Program::Options& options) {
  return Compiler(graph, options).Compile();
}

}  // namespace tandem::interpreter
