#pragma once
// What each input of each node is used for: the rule behind "trainable" (docs/architecture.md).
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/tensor.h"

namespace onnx {
class GraphProto;
class NodeProto;
}  // namespace onnx

namespace tandem::graph {

// In rising order: a value used in several ways has the greatest of its roles.
enum class Role {
  kShape,      // only its shape or type is read
  kConstant,   // Clip bounds, epsilons, normalisation constants, ...
  kWeight,     // weight, bias or scale
  kStatistic,  // mean or variance of BatchNormalization
};

// The roles of one graph. What only passes through Identity, Transpose, Reshape and the like has the role of what it
// becomes. Keeps views of the graph, which must outlive it and is sorted (CheckModel). Immutable, thread-safe.
class Roles {
 public:
  explicit Roles(const onnx::GraphProto& graph);

  // Of input `slot` of node number `node`.
  Role OfInput(int node, int slot) const { return by_input_[node][slot]; }
  // Of all uses of a value together; kShape if there is none.
  Role OfValue(std::string_view value) const;

 private:
  // What a value is made of.
  enum class Origin { kConstant, kRawInput, kActivation };
  struct Source {
    Origin origin = Origin::kActivation;
    const Shape* initializer = nullptr;  // shape of the initialiser that passed through unchanged to here
    const onnx::NodeProto* maker = nullptr;
  };

  void FindSources(const onnx::GraphProto& graph);
  Origin OriginOf(const onnx::NodeProto& node) const;
  Role DirectRole(const onnx::NodeProto& node, int slot) const;
  Role AddendRole(const onnx::NodeProto& node, int slot) const;
  const Source& SourceOf(std::string_view value) const;

  std::unordered_map<std::string_view, Shape> initializer_shapes_;
  std::unordered_map<std::string_view, Source> sources_;
  std::vector<std::vector<Role>> by_input_;
  std::unordered_map<std::string_view, Role> by_value_;
};

// True for the types that can be trained: float, double, float16, bfloat16.
bool IsFloat(DType dtype);

}  // namespace tandem::graph
