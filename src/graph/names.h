#pragma once
// How messages name the parts of a model.
#include <string>
#include <string_view>

namespace onnx {
class NodeProto;
}

namespace tandem::graph {

// A text of a file, which may hold anything, as UTF-8 on one line: control characters and what is no UTF-8 escaped, a
// long one shortened.
std::string Shown(std::string_view text);
// Shown, in quotes.
std::string Quote(std::string_view name);

// "node 'conv1' (Conv)", or "node that makes 'x' (Conv)" if it has no name.
std::string NodeLabel(const onnx::NodeProto& node);

}  // namespace tandem::graph
