#pragma once
// A node while its graph is compiled: typed access to its attributes. What it asks for and cannot be given is
// collected, so that one message can name everything that stands in the way.
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace onnx {
class AttributeProto;
class NodeProto;
}  // namespace onnx

namespace tandem::interpreter {

// What a node's surroundings say about it.
struct NodeContext {
  int64_t opset = 0;
  c10::ScalarType float_type = c10::ScalarType::Float;  // stands for float32 in this program
  std::vector<std::string> initializers;                // per input: its initialiser's name, "" if it has none
  std::vector<bool> own;                                // per input: an initialiser that nobody else reads
  std::vector<bool> used;                               // per output: somebody reads it
};

// Thread-compatible; lives as long as compilation. The NodeProto must outlive it.
class Node {
 public:
  Node(const onnx::NodeProto& proto, NodeContext context);

  const NodeContext& context() const { return context_; }
  bool Owns(size_t input) const { return input < context_.own.size() && context_.own[input]; }
  bool Uses(size_t output) const { return output < context_.used.size() && context_.used[output]; }
  const std::string& first_output() const;
  // "'conv1' (Conv)", or by its output where it has no name.
  const std::string& label() const { return label_; }

  // Attributes, or `fallback` where the node has none of that name. One of another type becomes a problem.
  int64_t Int(std::string_view name, int64_t fallback);
  std::vector<int64_t> Ints(std::string_view name, std::vector<int64_t> fallback = {});
  std::string String(std::string_view name, std::string_view fallback);
  // The decimal that was meant: the shortest that rounds to the stored float (0.1f gives 0.1).
  double Float(std::string_view name, double fallback);
  // nullptr if there is none.
  const onnx::AttributeProto* Find(std::string_view name);

  void Unsupported(std::string_view what);
  // What was unsupported, and every attribute that nobody asked for.
  std::vector<std::string> Problems() const;

 private:
  const onnx::AttributeProto* FindTyped(std::string_view name, int type);

  const onnx::NodeProto& proto_;
  const NodeContext context_;
  std::string label_;
  std::set<std::string, std::less<>> asked_;
  std::vector<std::string> problems_;
};

}  // namespace tandem::interpreter
