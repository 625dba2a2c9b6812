#include "graph/shapes.h"

#include <unordered_map>

#include "graph/shape_rules.h"
#include "graph/shape_rules_views.h"

namespace tandem::graph {
namespace {

using Values = std::unordered_map<std::string_view, Known>;

// The inputs for a batch of one; an input with another unknown dimension stays unknown. Returns the batch size that
// fixed dimensions force on the graph.
int64_t SetInputs(const Graph& graph, Values* values) {
  int64_t batch = 1;
  bool first = true;
  for (const TensorSignature& input : graph.inputs()) {
    Shape shape = input.shape;
    if (!shape.empty() && shape[0] == -1) shape[0] = 1;
    if (first && !shape.empty()) batch = shape[0];
    first = false;
    bool known = true;
    for (int64_t dim : shape) known = known && dim >= 0;
    if (known) (*values)[input.name].shape = std::move(shape);
  }
  return batch;
}

}  // namespace

int64_t CountMacs(const Graph& graph) {
  Values values;
  const int64_t batch = SetInputs(graph, &values);
  for (const onnx::TensorProto& tensor : graph.model().graph().initializer()) values[tensor.name()] = KnownOf(tensor);
  int64_t total = 0;
  for (const onnx::NodeProto& node : graph.model().graph().node()) {
    const ShapeRule rule = FindShapeRule(node.op_type());
    if (rule == nullptr) return -1;
    Step step{node, {}};
    for (const std::string& input : node.input()) {
      const auto found = values.find(input);
      step.inputs.push_back(found == values.end() ? Known() : found->second);
    }
    std::optional<Known> out = rule(step);
    if (!out) return -1;
    if (__builtin_add_overflow(total, step.macs, &total)) return -1;
    if (node.output_size() > 0) values[node.output(0)] = *std::move(out);
  }
  return batch > 1 && total % batch == 0 ? total / batch : total;
}

}  // namespace tandem::graph
