#pragma once
// How each operator makes its output's shape from its inputs': a table of small functions.
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {

// What is known of a value: its shape, and its elements if it is a small integer tensor (a shape, axes, indices).
struct Known {
  std::optional<Shape> shape;
  std::optional<std::vector<int64_t>> elements;
};

// One node about to be followed.
struct Step {
  const onnx::NodeProto& node;
  std::vector<Known> inputs;  // nothing known for inputs left out
  int64_t macs = 0;           // set by the rule: multiply-accumulates of this node

  bool HasShape(size_t input) const { return input < inputs.size() && inputs[input].shape.has_value(); }
  bool HasElements(size_t input) const { return input < inputs.size() && inputs[input].elements.has_value(); }
  const Shape& ShapeOf(size_t input) const { return *inputs[input].shape; }
  const std::vector<int64_t>& ElementsOf(size_t input) const { return *inputs[input].elements; }
};

// Describes the node's first output; empty where it cannot be followed. Never fails on odd input.
using ShapeRule = std::optional<Known> (*)(Step&);

// nullptr for an operator without a rule.
ShapeRule FindShapeRule(std::string_view op);

// Elements of integer tensors larger than this are not followed.
constexpr int64_t kMostElements = 1024;

// The product where it fits; the dimensions of hostile files need not. REQUIRES: factors >= 0.
std::optional<int64_t> Product(int64_t a, int64_t b);
std::optional<int64_t> Product(const std::vector<int64_t>& factors);

}  // namespace tandem::graph
