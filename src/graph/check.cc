#include "graph/check.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/status.h"
#include "graph/names.h"
#include "graph/tensor_data.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {
namespace {

constexpr int64_t kOldestOpset = 11;
constexpr int64_t kNewestOpset = 21;
constexpr int64_t kOldestIr = 3;

bool IsDefaultDomain(std::string_view domain) { return domain.empty() || domain == "ai.onnx"; }

absl::StatusOr<int64_t> CheckVersions(const onnx::ModelProto& model) {
  if (!model.has_ir_version() || !model.has_graph()) {
    return InvalidArgument("not an ONNX model: no IR version or no graph");
  }
  if (model.ir_version() < kOldestIr || model.ir_version() > onnx::IR_VERSION) {
    return Unimplemented("IR version ", model.ir_version(), " is not supported; supported are ", kOldestIr, " to ",
                         static_cast<int>(onnx::IR_VERSION));
  }
  int64_t opset = 0;
  for (const onnx::OperatorSetIdProto& import : model.opset_import()) {
    if (!IsDefaultDomain(import.domain())) continue;
    if (opset != 0 && opset != import.version()) {
      return InvalidArgument("imports both opset ", opset, " and ", import.version(), " of ai.onnx");
    }
    opset = import.version();
  }
  if (opset == 0 && model.opset_import_size() > 0) {
    return Unimplemented("uses no operators of ai.onnx, only of ", Quote(model.opset_import(0).domain()),
                         ", which are not supported");
  }
  if (opset == 0) return InvalidArgument("imports no opset of ai.onnx");
  if (opset < kOldestOpset || opset > kNewestOpset) {
    return Unimplemented("opset ", opset, " of ai.onnx is not supported; supported are ", kOldestOpset, " to ",
                         kNewestOpset, ": export the model again with one of these");
  }
  return opset;
}

absl::Status CheckNode(const onnx::NodeProto& node) {
  if (!IsDefaultDomain(node.domain())) {
    return Unimplemented(NodeLabel(node), ": operators of domain ", Quote(node.domain()), " are not supported");
  }
  if (node.op_type().empty()) return InvalidArgument(NodeLabel(node), ": has no operator");
  std::unordered_set<std::string_view> names;
  for (const onnx::AttributeProto& attribute : node.attribute()) {
    if (!names.insert(attribute.name()).second) {
      return InvalidArgument(NodeLabel(node), ": attribute ", Quote(attribute.name()), " stands twice");
    }
    if (attribute.has_g() || attribute.graphs_size() > 0) {
      return Unimplemented(NodeLabel(node), ": operators with a graph inside (If, Loop, Scan) are not supported");
    }
    if (attribute.has_sparse_tensor() || attribute.sparse_tensors_size() > 0) {
      return Unimplemented(NodeLabel(node), ": sparse tensors are not supported");
    }
  }
  return absl::OkStatus();
}

using Producers = std::unordered_map<std::string_view, int>;  // value -> number of the node that makes it

// Follows the nodes that wait for each other from `start` until one comes again. REQUIRES: each node in `stuck` has an
// input made by a node in `stuck`.
std::string DescribeCycle(const onnx::GraphProto& graph, const Producers& producers, const std::vector<bool>& stuck,
                          int start) {
  std::vector<int> path;
  std::vector<int> position(stuck.size(), -1);
  int at = start;
  while (position[at] < 0) {
    position[at] = static_cast<int>(path.size());
    path.push_back(at);
    for (const std::string& input : graph.node(at).input()) {
      const auto maker = producers.find(input);
      if (maker != producers.end() && stuck[maker->second]) at = maker->second;
    }
  }
  std::vector<int> cycle(path.begin() + position[at], path.end());
  std::reverse(cycle.begin(), cycle.end());
  constexpr size_t kMostNamed = 8;
  std::string text = "these nodes wait for each other in a cycle: ";
  for (size_t i = 0; i < std::min(cycle.size(), kMostNamed); ++i) {
    StrAppend(&text, NodeLabel(graph.node(cycle[i])), " -> ");
  }
  StrAppend(&text, cycle.size() > kMostNamed ? "... -> " : "", NodeLabel(graph.node(cycle[0])));
  return text;
}

// Kahn's algorithm: takes away nodes whose inputs are there; what stays waits for a cycle.
absl::Status CheckCycles(const onnx::GraphProto& graph, const Producers& producers) {
  const int n = graph.node_size();
  std::vector<int> missing(n, 0);
  std::vector<std::vector<int>> readers(n);
  std::vector<int> ready;
  for (int i = 0; i < n; ++i) {
    for (const std::string& input : graph.node(i).input()) {
      const auto maker = producers.find(input);
      if (maker == producers.end()) continue;
      ++missing[i];
      readers[maker->second].push_back(i);
    }
    if (missing[i] == 0) ready.push_back(i);
  }
  std::vector<bool> stuck(n, true);
  while (!ready.empty()) {
    const int i = ready.back();
    ready.pop_back();
    stuck[i] = false;
    for (int reader : readers[i]) {
      if (--missing[reader] == 0) ready.push_back(reader);
    }
  }
  for (int i = 0; i < n; ++i) {
    if (stuck[i]) return InvalidArgument(DescribeCycle(graph, producers, stuck, i));
  }
  return absl::OkStatus();
}

// The values that exist before any node ran: inputs and initialisers.
absl::StatusOr<std::unordered_set<std::string_view>> StartValues(const onnx::GraphProto& graph) {
  std::unordered_set<std::string_view> known, initializers;
  for (const onnx::TensorProto& tensor : graph.initializer()) {
    if (tensor.name().empty()) return InvalidArgument("an initialiser has no name");
    if (!initializers.insert(tensor.name()).second) {
      return InvalidArgument("initialiser ", Quote(tensor.name()), " stands twice");
    }
  }
  for (const onnx::ValueInfoProto& input : graph.input()) {
    if (input.name().empty()) return InvalidArgument("an input has no name");
    if (!known.insert(input.name()).second) return InvalidArgument("input ", Quote(input.name()), " stands twice");
  }
  known.merge(initializers);
  return known;
}

absl::StatusOr<Producers> FindProducers(const onnx::GraphProto& graph,
                                        const std::unordered_set<std::string_view>& start) {
  Producers producers;
  for (int i = 0; i < graph.node_size(); ++i) {
    const onnx::NodeProto& node = graph.node(i);
    for (const std::string& output : node.output()) {
      if (output.empty()) continue;
      if (start.contains(output) || !producers.emplace(output, i).second) {
        return InvalidArgument(NodeLabel(node), ": value ", Quote(output), " is already made elsewhere");
      }
    }
  }
  return producers;
}

absl::Status CheckOrder(const onnx::GraphProto& graph) {
  TANDEM_ASSIGN_OR_RETURN(const auto start, StartValues(graph));
  TANDEM_ASSIGN_OR_RETURN(const Producers producers, FindProducers(graph, start));
  const onnx::NodeProto* early = nullptr;  // the first node that reads what a later one makes
  for (int i = 0; i < graph.node_size(); ++i) {
    const onnx::NodeProto& node = graph.node(i);
    for (const std::string& input : node.input()) {
      if (input.empty() || start.contains(input)) continue;
      const auto maker = producers.find(input);
      if (maker == producers.end()) {
        return InvalidArgument(NodeLabel(node), ": input ", Quote(input), " is made by no node");
      }
      if (maker->second >= i && early == nullptr) early = &node;
    }
  }
  if (early != nullptr) {
    TANDEM_RETURN_IF_ERROR(CheckCycles(graph, producers));
    return InvalidArgument(NodeLabel(*early), ": reads a value that a later node makes; nodes must be sorted");
  }
  for (const onnx::ValueInfoProto& output : graph.output()) {
    if (!start.contains(output.name()) && !producers.contains(output.name())) {
      return InvalidArgument("output ", Quote(output.name()), " is made by no node");
    }
  }
  if (graph.output_size() == 0) return InvalidArgument("the graph has no output");
  return absl::OkStatus();
}

absl::Status CheckTensors(const onnx::GraphProto& graph) {
  const auto check = [](const onnx::TensorProto& tensor, const std::string& label) {
    return Annotate(CheckTensor(tensor), label);
  };
  for (const onnx::TensorProto& tensor : graph.initializer()) {
    TANDEM_RETURN_IF_ERROR(check(tensor, StrCat("initialiser ", Quote(tensor.name()))));
  }
  for (const onnx::NodeProto& node : graph.node()) {
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      const std::string label = StrCat(NodeLabel(node), ": attribute ", Quote(attribute.name()));
      if (attribute.has_t()) TANDEM_RETURN_IF_ERROR(check(attribute.t(), label));
      for (const onnx::TensorProto& tensor : attribute.tensors()) TANDEM_RETURN_IF_ERROR(check(tensor, label));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int64_t> CheckModel(const onnx::ModelProto& model) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t opset, CheckVersions(model));
  const onnx::GraphProto& graph = model.graph();
  if (graph.sparse_initializer_size() > 0) return Unimplemented("sparse initialisers are not supported");
  for (const onnx::NodeProto& node : graph.node()) TANDEM_RETURN_IF_ERROR(CheckNode(node));
  TANDEM_RETURN_IF_ERROR(CheckOrder(graph));
  TANDEM_RETURN_IF_ERROR(CheckTensors(graph));
  return opset;
}

absl::StatusOr<TensorSignature> SignatureOf(const onnx::ValueInfoProto& value) {
  if (!value.type().has_tensor_type())
    return Unimplemented("is no tensor; sequences, maps and optionals are not supported");
  const onnx::TypeProto::Tensor& type = value.type().tensor_type();
  TensorSignature signature;
  signature.name = value.name();
  signature.dtype = static_cast<DType>(type.elem_type());
  if (ProtocolName(signature.dtype).empty()) {
    return Unimplemented("has element type ", type.elem_type(), ", which is not supported");
  }
  for (const onnx::TensorShapeProto::Dimension& dim : type.shape().dim()) {
    if (dim.has_dim_value() && dim.dim_value() < 0) {
      return InvalidArgument("has the negative dimension ", dim.dim_value());
    }
    signature.shape.push_back(dim.has_dim_value() ? dim.dim_value() : -1);
  }
  return signature;
}

}  // namespace tandem::graph
