#pragma once
// How messages name the parts of a model.
#include <string>
#include <string_view>

namespace onnx {
class NodeProto;
}

namespace tandem::graph {

// A name in quotes: control characters escaped, long ones shortened, since files may hold anything.
std::string Quote(std::string_view name);

// "node 'conv1' (Conv)", or "node that makes 'x' (Conv)" if it has no name.
std::string NodeLabel(const onnx::NodeProto& node);

}  // namespace tandem::graph
