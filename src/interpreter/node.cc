#include "interpreter/node.h"

#include <charconv>
#include <utility>

#include "base/strings.h"
#include "graph/names.h"
#include "onnx-ml.pb.h"

namespace tandem::interpreter {
namespace {

double MeantDecimal(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double decimal = value;
  std::from_chars(text, end, decimal);
  return decimal;
}

std::string Label(const onnx::NodeProto& proto) {
  const std::string op = graph::Shown(proto.op_type());
  if (!proto.name().empty()) return StrCat(graph::Quote(proto.name()), " (", op, ")");
  if (proto.output_size() > 0) return StrCat("of output ", graph::Quote(proto.output(0)), " (", op, ")");
  return StrCat("without a name (", op, ")");
}

}  // namespace

Node::Node(const onnx::NodeProto& proto, NodeContext context)
    : proto_(proto), context_(std::move(context)), label_(Label(proto)) {}

const std::string& Node::first_output() const { return proto_.output(0); }

const onnx::AttributeProto* Node::Find(std::string_view name) {
  asked_.emplace(name);
  for (const onnx::AttributeProto& attribute : proto_.attribute()) {
    if (attribute.name() == name) return &attribute;
  }
  return nullptr;
}

const onnx::AttributeProto* Node::FindTyped(std::string_view name, int type) {
  const onnx::AttributeProto* attribute = Find(name);
  if (attribute == nullptr || (attribute->type() == type && attribute->ref_attr_name().empty())) return attribute;
  Unsupported(StrCat("attribute '", name, "' has the wrong type"));
  return nullptr;
}

int64_t Node::Int(std::string_view name, int64_t fallback) {
  const auto* attribute = FindTyped(name, onnx::AttributeProto::INT);
  return attribute == nullptr ? fallback : attribute->i();
}

std::vector<int64_t> Node::Ints(std::string_view name, std::vector<int64_t> fallback) {
  const auto* attribute = FindTyped(name, onnx::AttributeProto::INTS);
  if (attribute == nullptr) return fallback;
  return {attribute->ints().begin(), attribute->ints().end()};
}

std::string Node::String(std::string_view name, std::string_view fallback) {
  const auto* attribute = FindTyped(name, onnx::AttributeProto::STRING);
  return attribute == nullptr ? std::string(fallback) : attribute->s();
}

double Node::Float(std::string_view name, double fallback) {
  const auto* attribute = FindTyped(name, onnx::AttributeProto::FLOAT);
  return attribute == nullptr ? fallback : MeantDecimal(attribute->f());
}

void Node::Unsupported(std::string_view what) { problems_.push_back(StrCat("node ", label_, ": ", what)); }

std::vector<std::string> Node::Problems() const {
  std::vector<std::string> problems = problems_;
  for (const onnx::AttributeProto& attribute : proto_.attribute()) {
    if (asked_.contains(attribute.name())) continue;
    problems.push_back(
        StrCat("node ", label_, ": attribute '", attribute.name(), "' is not known in opset ", context_.opset));
  }
  return problems;
}

}  // namespace tandem::interpreter
