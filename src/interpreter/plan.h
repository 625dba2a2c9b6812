#pragma once
// A graph compiled to a list of steps over numbered slots.
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/graph.h"
#include "interpreter/interpreter.h"
#include "interpreter/operators.h"

namespace tandem::interpreter {

// Immutable once made, so any number of runs may share one.
struct Plan {
  struct Weight {
    std::string name;
    int slot;
    at::Tensor value;  // the file's
  };
  struct Constant {
    int slot;
    at::Tensor value;
  };
  struct Step {
    Kernel kernel;
    std::vector<int> inputs;   // slots; kAbsent for one that is left out
    std::vector<int> outputs;  // slots; kAbsent for one that nobody reads
    std::vector<int> free;     // slots that nobody reads afterwards
    std::string label;
  };
  static constexpr int kAbsent = 0;  // a slot that is never filled

  Program::Options options;
  std::vector<TensorSignature> inputs;
  std::vector<int> input_slots, output_slots;
  std::vector<std::string> output_names;
  std::vector<Weight> weights;
  std::vector<Constant> constants;
  std::vector<Step> steps;
  int slots = 1;
};

absl::StatusOr<Plan> Compile(const graph::Graph& graph, const Program::Options& options);

// Runs one step on the slots; what it throws goes to the caller.
void RunStep(const Plan::Step& step, const RunState& state, std::vector<at::Tensor>* values);

// The first line of what LibTorch says, without its stack trace.
std::string ShortMessage(const std::exception& error);

}  // namespace tandem::interpreter
