#include "graph/names.h"

#include "absl/strings/escaping.h"
#include "base/strings.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {

std::string Quote(std::string_view name) {
  constexpr size_t kLongest = 120;
  std::string text = absl::Utf8SafeCEscape(AbslView(name.substr(0, kLongest)));
  return StrCat("'", text, name.size() > kLongest ? "..." : "", "'");
}

std::string NodeLabel(const onnx::NodeProto& node) {
  std::string op = node.op_type().substr(0, 60);
  if (!node.name().empty()) return StrCat("node ", Quote(node.name()), " (", op, ")");
  if (node.output_size() == 0) return StrCat("a node without name and outputs (", op, ")");
  return StrCat("node that makes ", Quote(node.output(0)), " (", op, ")");
}

}  // namespace tandem::graph
