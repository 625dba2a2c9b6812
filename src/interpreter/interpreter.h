#pragma once
// A graph executed on LibTorch, forward; autograd gives backward. One Program serves any number of threads.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/graph.h"

namespace tandem::interpreter {

// BatchNorm statistics that one training-mode run saw: of node `mean_name`'s batch.
struct BatchStatistics {
  std::string mean_name, variance_name;  // initialisers
  at::Tensor mean;                       // of this micro-batch
  at::Tensor variance;                   // population variance (divided by n)
  at::Tensor unbiased_variance;          // divided by n - 1: what PyTorch's rule adds, in its very bits
  int64_t n = 0;                         // elements per channel
  double momentum = 0.1;                 // PyTorch's meaning: new = (1 - momentum) * old + momentum * batch
  bool onnx_rule = false;  // training_mode=1: the running variance takes the population variance, else n/(n-1) times it
};

// Somebody who computes beside the thread that computes the gradients.
class Assistant {
 public:
  virtual ~Assistant() = default;
  // Called while gradients are computed, on the thread that does. True: `piece`, which does not throw, is run once, on
  // any thread; it writes gradients of weights, which nobody may read before. False: nobody is free.
  virtual bool Offer(std::function<void()> piece) = 0;
};

struct RunOptions {
  bool training = false;  // batch statistics in BatchNorm, Dropout active
  // Dropout keeps the elements whose number is < 1 - ratio; the numbers come from (seed, step, sample, node).
  uint64_t seed = 0;
  uint64_t step = 0;
  int64_t first_sample = 0;                            // number of this micro-batch's first sample within the step
  std::vector<BatchStatistics>* statistics = nullptr;  // replaced when training, in node order; none for n = 1
  // Takes convolutions' weight gradients. Outlives the computing of the gradients.
  Assistant* assistant = nullptr;
};

// Weights by initialiser name. Training hands in leaf tensors that require gradients.
using Values = std::map<std::string, at::Tensor>;

class Program {
 public:
  struct Options {
    bool skip_final_softmax =
        false;                  // give the input of a Softmax/LogSoftmax that feeds the output: logits for the loss
    bool channels_last = true;  // 4-d inputs and convolution weights in NHWC memory order (faster on CPUs)
    at::ScalarType dtype =
        at::kFloat;  // float inputs, weights and constants are converted to this (kDouble for checks)
  };
  // Names every operator that is missing or used in a way that is not supported, not only the first.
  static absl::StatusOr<Program> Create(const graph::Graph& graph, const Options& options);
  static absl::StatusOr<Program> Create(const graph::Graph& graph) { return Create(graph, Options()); }
  Program(Program&&) noexcept;
  ~Program();

  // The graph's float initialisers as tensors of their own (options.dtype), ready to be used as `weights`.
  Values InitialWeights() const;

  // Runs the graph. `inputs` in the order of graph.inputs(); every float initialiser that `weights` lacks is taken from
  // the file. Thread-safe: works on the calling thread only, except where LibTorch itself uses more
  // (at::set_num_threads). LibTorch's exceptions become InvalidArgument with the node's name. Whether a gradient graph
  // is recorded is the caller's choice (at::GradMode, weights that require gradients). The first dimension of an input
  // may differ from the file's: it is the batch.
  absl::StatusOr<std::vector<at::Tensor>> Run(const std::vector<at::Tensor>& inputs, const Values& weights,
                                              const RunOptions& options) const;

 private:
  struct Rep;
  explicit Program(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

// Names of the operators that the table knows, for `tandem model check`.
std::vector<std::string> SupportedOperators();

}  // namespace tandem::interpreter
