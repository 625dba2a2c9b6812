#include "graph/rewrite.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "base/status.h"
#include "base/text.h"
#include "graph/attributes.h"
#include "graph/rep.h"

namespace tandem::graph {
namespace {

constexpr char kBatchName[] = "batch";
constexpr int64_t kMostSizes = 64;  // of a Reshape's target: more is no shape

bool HasFixed(const onnx::ValueInfoProto& value, int64_t batch) {
  const onnx::TensorShapeProto& shape = value.type().tensor_type().shape();
  return shape.dim_size() > 0 && shape.dim(0).has_dim_value() && shape.dim(0).dim_value() == batch;
}

std::optional<std::vector<int64_t>> Int64s(const onnx::TensorProto& proto) {
  if (proto.data_type() != onnx::TensorProto::INT64 || proto.dims_size() > 1) return std::nullopt;
  if (proto.dims_size() == 1 && proto.dims(0) > kMostSizes) return std::nullopt;
  absl::StatusOr<Tensor> tensor = ToTensor(proto);
  if (!tensor.ok()) return std::nullopt;
  std::vector<int64_t> values(tensor->buffer.size() / sizeof(int64_t));
  if (!values.empty()) std::memcpy(values.data(), tensor->buffer.data(), tensor->buffer.size());
  return values;
}

// Frees the batch of a model in place. Lives no longer than the model.
class BatchFreer {
 public:
  explicit BatchFreer(onnx::ModelProto* model) : graph_(model->mutable_graph()) {
    for (const auto& tensor : graph_->initializer()) initializers_.emplace(tensor.name(), &tensor);
    for (const auto& node : graph_->node()) {
      for (const std::string& output : node.output()) makers_.emplace(output, &node);
    }
    for (const auto& value : graph_->value_info()) infos_.emplace(value.name(), &value);
  }

  // False if there was nothing to do.
  bool Run() {
    if (!FindBatch()) return false;
    FindSamples();
    for (onnx::NodeProto& node : *graph_->mutable_node()) {
      if (const auto target = FreeTarget(node)) SetTarget(&node, *target);
    }
    for (auto* values : {graph_->mutable_input(), graph_->mutable_output(), graph_->mutable_value_info()}) {
      for (onnx::ValueInfoProto& value : *values) {
        if (!samples_.contains(value.name()) || !HasFixed(value, batch_)) continue;
        value.mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim(0)->set_dim_param(kBatchName);
      }
    }
    return true;
  }

 private:
  // The first dimension that all inputs have.
  bool FindBatch() {
    for (const auto& input : graph_->input()) {
      if (initializers_.contains(input.name())) continue;
      const onnx::TensorShapeProto& shape = input.type().tensor_type().shape();
      if (shape.dim_size() == 0 || !shape.dim(0).has_dim_value()) return false;
      if (batch_ == 0) batch_ = shape.dim(0).dim_value();
      if (!HasFixed(input, batch_)) return false;
      samples_.insert(input.name());
    }
    return batch_ > 0;
  }

  // What is computed from the inputs' elements: it has a batch.
  void FindSamples() {
    for (const onnx::NodeProto& node : graph_->node()) {
      if (node.op_type() == "Shape" || node.op_type() == "Size") continue;
      if (std::none_of(node.input().begin(), node.input().end(), [&](auto& name) { return samples_.contains(name); })) {
        continue;
      }
      samples_.insert(node.output().begin(), node.output().end());
    }
  }

  // The elements of a constant 1-d integer value: of a shape, so there are few, put together from few parts. `parts`
  // counts them, for a Concat of Concats names exponentially many.
  std::optional<std::vector<int64_t>> Constant(const std::string& name) const {
    int parts = 0;
    return Constant(name, 0, &parts);
  }
  std::optional<std::vector<int64_t>> Constant(const std::string& name, int depth, int* parts) const {
    constexpr int kMaxDepth = 8, kMostParts = 1000;
    if (++*parts > kMostParts) return std::nullopt;
    if (const auto found = initializers_.find(name); found != initializers_.end()) return Int64s(*found->second);
    const auto maker = makers_.find(name);
    if (maker == makers_.end() || depth > kMaxDepth) return std::nullopt;
    const onnx::NodeProto& node = *maker->second;
    if (node.op_type() == "Constant") {
      if (const auto* value = FindAttribute(node, "value")) return Int64s(value->t());
      if (const auto* value = FindAttribute(node, "value_ints")) {
        if (value->ints_size() > kMostSizes) return std::nullopt;
        return IntsAttribute(node, "value_ints");
      }
      if (const auto* value = FindAttribute(node, "value_int")) return std::vector<int64_t>{value->i()};
      return std::nullopt;
    }
    const bool passes = node.op_type() == "Identity" || node.op_type() == "Unsqueeze" || node.op_type() == "Concat";
    if (!passes || node.input_size() == 0) return std::nullopt;
    std::vector<int64_t> values;
    const int inputs = node.op_type() == "Concat" ? node.input_size() : 1;
    for (int i = 0; i < inputs; ++i) {
      const auto part = Constant(node.input(i), depth + 1, parts);
      if (!part || static_cast<int64_t>(values.size() + part->size()) > kMostSizes) return std::nullopt;
      values.insert(values.end(), part->begin(), part->end());
    }
    return values;
  }

  // A Reshape's target that keeps the samples apart, where the one it has says the batch in its first element. At the
  // file's own batch it means the same.
  std::optional<std::vector<int64_t>> FreeTarget(const onnx::NodeProto& node) const {
    if (node.op_type() != "Reshape" || node.input_size() != 2 || !samples_.contains(node.input(0))) return std::nullopt;
    auto target = Constant(node.input(1));
    if (!target || target->empty() || target->front() != batch_) return std::nullopt;
    const bool rest_is_known = std::all_of(target->begin() + 1, target->end(), [](int64_t size) { return size > 0; });
    if (!rest_is_known) {  // 0 takes the data's own first size, so that must be the batch
      const auto info = infos_.find(node.input(0));
      if (info != infos_.end() && !HasFixed(*info->second, batch_)) return std::nullopt;
      const bool means_empty =
          IntAttribute(node, "allowzero", 0) != 0 && std::count(target->begin(), target->end(), 0) > 0;
      if (means_empty) return std::nullopt;
    }
    target->front() = rest_is_known ? -1 : 0;
    return target;
  }

  void SetTarget(onnx::NodeProto* node, const std::vector<int64_t>& target) {
    std::string name = StrCat(node->output(0), ".shape");
    while (initializers_.contains(name) || makers_.contains(name) || samples_.contains(name)) name += '_';
    onnx::TensorProto* tensor = graph_->add_initializer();
    initializers_.emplace(name, tensor);
    tensor->set_name(name);
    tensor->set_data_type(onnx::TensorProto::INT64);
    tensor->add_dims(static_cast<int64_t>(target.size()));
    tensor->set_raw_data(target.data(), target.size() * sizeof(int64_t));
    node->set_input(1, name);
    for (onnx::AttributeProto& attribute : *node->mutable_attribute()) {
      if (attribute.name() == "allowzero") attribute.set_i(0);
    }
  }

  onnx::GraphProto* const graph_;
  std::unordered_map<std::string, const onnx::TensorProto*> initializers_;
  std::unordered_map<std::string, const onnx::NodeProto*> makers_;
  std::unordered_map<std::string, const onnx::ValueInfoProto*> infos_;
  std::unordered_set<std::string> samples_;
  int64_t batch_ = 0;
};

// Outputs that somebody reads.
std::unordered_set<std::string> UsedValues(const onnx::GraphProto& graph) {
  std::unordered_set<std::string> used;
  for (const auto& node : graph.node()) used.insert(node.input().begin(), node.input().end());
  for (const auto& output : graph.output()) used.insert(output.name());
  return used;
}

bool StopDropout(onnx::NodeProto* node) {
  constexpr int kTrainingMode = 2;
  if (node->op_type() != "Dropout" || node->input_size() <= kTrainingMode) return false;
  node->mutable_input()->RemoveLast();
  return true;
}

bool StopBatchNorm(onnx::NodeProto* node, const std::unordered_set<std::string>& used) {
  if (node->op_type() != "BatchNormalization" || IntAttribute(*node, "training_mode", 0) == 0) return false;
  const auto begin = node->output().begin() + 1;
  // Who asks for the new statistics means training.
  if (std::any_of(begin, node->output().end(), [&](auto& name) { return used.contains(name); })) return false;
  while (node->output_size() > 1) node->mutable_output()->RemoveLast();
  for (onnx::AttributeProto& attribute : *node->mutable_attribute()) {
    if (attribute.name() == "training_mode") attribute.set_i(0);
  }
  return true;
}

bool StopTraining(onnx::GraphProto* graph) {
  const std::unordered_set<std::string> used = UsedValues(*graph);
  bool changed = false;
  for (onnx::NodeProto& node : *graph->mutable_node()) {
    if (StopDropout(&node) || StopBatchNorm(&node, used)) changed = true;
  }
  return changed;
}

absl::StatusOr<Graph> Rewritten(const Graph& graph, bool stop_training) {
  onnx::ModelProto model = graph.model();
  bool changed = BatchFreer(&model).Run();
  if (stop_training && StopTraining(model.mutable_graph())) changed = true;
  if (!changed) return Graph::Parse(std::string(graph.bytes()), "model");
  std::string bytes;
  if (!model.SerializeToString(&bytes)) return Internal("the model cannot be written with a free batch");
  return Graph::Parse(std::move(bytes), "model with a free batch");
}

}  // namespace

absl::StatusOr<Graph> WithFreeBatch(const Graph& graph) { return Rewritten(graph, false); }

absl::StatusOr<Graph> ForServing(const Graph& graph) { return Rewritten(graph, true); }

}  // namespace tandem::graph
