#pragma once
// An ONNX file as a graph. Knows protobuf and ONNX, no runtime. Everything here is safe on hostile files: sizes are
// checked before memory is taken, cycles and paths outside the model's folder are refused, nothing throws.
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"

namespace onnx {
class ModelProto;
class NodeProto;
class TensorProto;
}  // namespace onnx

namespace tandem::graph {

// A loaded, checked model; immutable, so shared use from many threads is fine. Owns the file's bytes: initialiser data
// are views into them, and a splice changes only those bytes.
class Graph {
 public:
  // Reads a file, joins external data (only from the file's own folder, no links out of it) into one model < 2 GB,
  // checks it (IR version, opset 11..21 of ai.onnx, names, topological order, no cycles, subgraph-free, known dtypes,
  // sizes of initialisers), infers shapes where they are needed.
  static absl::StatusOr<Graph> Load(const std::filesystem::path& path);
  // The same from bytes that need no other file. `source` names it in messages.
  static absl::StatusOr<Graph> Parse(std::string bytes, std::string_view source);

  Graph(Graph&&) noexcept;
  Graph& operator=(Graph&&) noexcept;
  ~Graph();

  const onnx::ModelProto& model() const;
  // The file's bytes as one ONNX file without external data. Equal to the input bytes if there was none.
  std::string_view bytes() const;
  int64_t opset() const;

  // Inputs that are not initialisers, and outputs, in file order. Unknown or symbolic dimensions are -1.
  const std::vector<TensorSignature>& inputs() const;
  const std::vector<TensorSignature>& outputs() const;

  struct Initializer {
    std::string name;
    DType dtype;
    Shape shape;
    std::string_view data;  // little endian, row-major, at any address (not aligned: copy it); empty for strings
  };
  const std::vector<Initializer>& initializers() const;
  const Initializer* FindInitializer(std::string_view name) const;  // nullptr if there is none

  // Which float initialisers training may change, by the rule of docs/architecture.md ("Trainable"): weights, biases
  // and scales of Conv, Gemm, MatMul, BatchNormalization, Add, Mul...; not BatchNorm statistics, Clip bounds, epsilons,
  // shapes, normalisation constants. In file order.
  std::vector<std::string> TrainableInitializers() const;
  // BatchNormalization statistics (mean and variance inputs), which training updates without gradient.
  std::vector<std::string> StatisticInitializers() const;

  // A copy in which each initialiser that unrelated nodes share is given to each of them under a name of its own (see
  // docs/architecture.md); what stands in one group of `tie` stays shared. Unchanged bytes if nothing is shared.
  absl::StatusOr<Graph> Unshared(const std::vector<std::vector<std::string>>& tie) const;

  // The file with new data in these initialisers, all other bytes equal. Each value has the byte size of its
  // initialiser.
  absl::StatusOr<std::string> Splice(const std::map<std::string, std::string>& values) const;

 private:
  struct Rep;
  explicit Graph(std::unique_ptr<Rep> rep);
  // Checks the model and fills the rest. REQUIRES: bytes and model are set and say the same.
  static absl::Status FillRep(Rep* rep);
  std::unique_ptr<Rep> rep_;
};

// A starting file for training: He initialisation from `seed`, dynamic batch dimension "N", input "input" [N,C,H,W] of
// floats 0..1 (normalisation constants are in the graph), output "logits" [N,classes], opset 17.
struct Architecture {
  std::string name;  // mlp, lenet, resnet8, resnet20, resnet18
  Shape input;       // C,H,W; mlp also takes one number of features
  int64_t classes = 0;
  uint64_t seed = 0;
  std::vector<int64_t> hidden = {256, 128};  // mlp
};
absl::StatusOr<std::string> MakeModel(const Architecture& architecture);
const std::vector<std::string>& ArchitectureNames();

// For `tandem model show`: counts and costs.
struct Summary {
  int64_t parameters = 0;  // elements of all float initialisers
  int64_t trainable_parameters = 0;
  int64_t macs = -1;  // multiply-accumulates for one sample (batch dimension 1); -1 when shapes are unknown
  std::map<std::string, int> operators;  // "Conv" -> nodes
};
absl::StatusOr<Summary> Summarise(const Graph& graph);

// TensorProto files ("input_0.pb" of ONNX's own tests).
absl::StatusOr<Tensor> ReadTensorProto(std::string_view bytes);
absl::StatusOr<Tensor> ToTensor(const onnx::TensorProto& proto);
std::string WriteTensorProto(const Tensor& tensor);

}  // namespace tandem::graph
