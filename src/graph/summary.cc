// Counts and costs, for people.
#include <unordered_set>

#include "base/status.h"
#include "graph/graph.h"
#include "graph/roles.h"
#include "graph/shapes.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {

absl::StatusOr<Summary> Summarise(const Graph& graph) {
  Summary summary;
  const std::vector<std::string> trainable = graph.TrainableInitializers();
  const std::unordered_set<std::string_view> trained(trainable.begin(), trainable.end());
  for (const Graph::Initializer& initializer : graph.initializers()) {
    if (!IsFloat(initializer.dtype)) continue;
    TANDEM_ASSIGN_OR_RETURN(const int64_t elements, ElementCount(initializer.shape));
    summary.parameters += elements;
    if (trained.contains(initializer.name)) summary.trainable_parameters += elements;
  }
  for (const onnx::NodeProto& node : graph.model().graph().node()) ++summary.operators[node.op_type()];
  summary.macs = CountMacs(graph);
  return summary;
}

}  // namespace tandem::graph
