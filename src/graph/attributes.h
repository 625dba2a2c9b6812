#pragma once
// Attributes of a node with their defaults.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "onnx-ml.pb.h"

namespace tandem::graph {

inline const onnx::AttributeProto* FindAttribute(const onnx::NodeProto& node, std::string_view name) {
  for (const onnx::AttributeProto& attribute : node.attribute()) {
    if (attribute.name() == name) return &attribute;
  }
  return nullptr;
}

inline int64_t IntAttribute(const onnx::NodeProto& node, std::string_view name, int64_t otherwise) {
  const onnx::AttributeProto* found = FindAttribute(node, name);
  return found != nullptr && found->type() == onnx::AttributeProto::INT ? found->i() : otherwise;
}

inline std::vector<int64_t> IntsAttribute(const onnx::NodeProto& node, std::string_view name) {
  const onnx::AttributeProto* found = FindAttribute(node, name);
  if (found == nullptr) return {};
  return {found->ints().begin(), found->ints().end()};
}

inline std::string StringAttribute(const onnx::NodeProto& node, std::string_view name) {
  const onnx::AttributeProto* found = FindAttribute(node, name);
  return found == nullptr ? "" : found->s();
}

}  // namespace tandem::graph
