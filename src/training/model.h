#pragma once
// The ONNX file being trained: its weights as tensors, and the way back into the file.
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/graph.h"
#include "interpreter/interpreter.h"
#include "spec/train_spec.h"

namespace tandem::training {

// Thread-compatible: any number of threads may read while none writes to the tensors.
class Model {
 public:
  // Un-shares merged initialisers (spec.tie stay shared) and picks what is trained (spec.train, spec.freeze).
  static absl::StatusOr<Model> Create(const graph::Graph& file, const spec::TrainSpec& spec, at::ScalarType dtype);

  const graph::Graph& graph() const { return graph_; }
  const interpreter::Program& program() const { return program_; }

  // Names and tensors of what the optimiser changes, in file order.
  const std::vector<std::string>& trained() const { return trained_; }
  const std::vector<at::Tensor>& weights() const { return weights_; }
  // BatchNorm's running means and variances, in file order.
  const std::vector<std::string>& statistics() const { return statistics_; }
  // Every float initialiser by name; the tensors of weights() and the statistics among them.
  const interpreter::Values& values() const { return values_; }

  // values() with a leaf of its own for each trained tensor, which shares the weight's memory: one thread's autograd
  // graph. `leaves` gets them in the order of trained().
  interpreter::Values WithLeaves(std::vector<at::Tensor>* leaves) const;

  // The file with the present weights and statistics.
  absl::StatusOr<std::string> ToFile() const;

 private:
  Model(graph::Graph graph, interpreter::Program program) : graph_(std::move(graph)), program_(std::move(program)) {}

  graph::Graph graph_;
  interpreter::Program program_;
  std::vector<std::string> trained_, statistics_;
  std::vector<at::Tensor> weights_;
  interpreter::Values values_;
};

// Which initialisers are trained. `train` empty = all trainable ones; a pattern (* and ?) picks among the trainable, a
// plain name may name any float initialiser but BatchNorm statistics; `freeze` takes away. A pattern that matches
// nothing is an error.
absl::StatusOr<std::vector<std::string>> SelectTrained(const graph::Graph& graph, const std::vector<std::string>& train,
                                                       const std::vector<std::string>& freeze);

}  // namespace tandem::training
