#include "graph/names.h"

#include "absl/strings/escaping.h"
#include "base/strings.h"
#include "base/text.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {

std::string Shown(std::string_view text) {
  constexpr size_t kLongest = 120;
  std::string_view head = text.substr(0, kLongest);
  if (head.size() < text.size()) head = head.substr(0, WholeCharacters(head));
  const std::string escaped = IsUtf8(head) ? absl::Utf8SafeCEscape(AbslView(head)) : absl::CHexEscape(AbslView(head));
  return StrCat(escaped, head.size() < text.size() ? "..." : "");
}

std::string Quote(std::string_view name) { return StrCat("'", Shown(name), "'"); }

std::string NodeLabel(const onnx::NodeProto& node) {
  const std::string op = Shown(node.op_type());
  if (!node.name().empty()) return StrCat("node ", Quote(node.name()), " (", op, ")");
  if (node.output_size() == 0) return StrCat("a node without name and outputs (", op, ")");
  return StrCat("node that makes ", Quote(node.output(0)), " (", op, ")");
}

}  // namespace tandem::graph
