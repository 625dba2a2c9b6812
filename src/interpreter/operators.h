#pragma once
// The operator table: one row per ONNX operator, in one file per family. A row's factory reads the node's attributes
// once and gives the function that runs it.
#include <ATen/core/Tensor.h>

#include <functional>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "interpreter/interpreter.h"
#include "interpreter/node.h"

namespace tandem::interpreter {

// What a run tells its nodes.
struct RunState {
  const RunOptions& options;
  int64_t batch = 1;  // samples: the first dimension of the graph's first input
};

// A node's input tensors; one that is left out is undefined. Views: valid during the call only.
class Inputs {
 public:
  explicit Inputs(std::span<const at::Tensor* const> tensors) : tensors_(tensors) {}
  size_t size() const { return tensors_.size(); }
  bool Has(size_t index) const { return index < tensors_.size() && tensors_[index]->defined(); }
  // REQUIRES: index < size().
  const at::Tensor& operator[](size_t index) const { return *tensors_[index]; }
  // Undefined when left out.
  at::Tensor Get(size_t index) const { return Has(index) ? *tensors_[index] : at::Tensor(); }

 private:
  std::span<const at::Tensor* const> tensors_;
};

// Runs one node: gives at most as many tensors as the node has outputs. Pure but for RunOptions::statistics, so any
// number of threads may call one. Throws c10::Error, which Program::Run catches.
using Kernel = std::function<std::vector<at::Tensor>(const Inputs& inputs, const RunState& state)>;

inline constexpr int kAnyNumber = std::numeric_limits<int>::max();

struct Operator {
  std::string_view name;
  int min_inputs, max_inputs, max_outputs;
  Kernel (*factory)(Node& node);
  bool depends_on_run = false;  // reads RunState: never folded into a constant
};

std::span<const Operator> ConvolutionOperators();
std::span<const Operator> PoolingOperators();
std::span<const Operator> NormalisationOperators();
std::span<const Operator> ActivationOperators();
std::span<const Operator> ArithmeticOperators();
std::span<const Operator> ReductionOperators();
std::span<const Operator> MatrixOperators();
std::span<const Operator> ShapeOperators();
std::span<const Operator> SelectionOperators();
std::span<const Operator> ConstantOperators();

// nullptr if the table has none of that name.
const Operator* FindOperator(std::string_view name);

}  // namespace tandem::interpreter
