#include "training/model.h"

#include <ATen/ops/empty.h>
#include <fnmatch.h>

#include <algorithm>
#include <set>

#include "base/status.h"
#include "base/text.h"
#include "graph/rewrite.h"

namespace tandem::training {
namespace {

absl::StatusOr<at::ScalarType> ScalarTypeOf(const graph::Graph::Initializer& initializer) {
  switch (initializer.dtype) {
    case DType::kFloat32:
      return at::kFloat;
    case DType::kFloat64:
      return at::kDouble;
    case DType::kFloat16:
      return at::kHalf;
    case DType::kBFloat16:
      return at::kBFloat16;
    default:
      return InvalidArgument("initialiser '", initializer.name, "' is no float tensor and cannot be trained");
  }
}

bool IsFloat(const graph::Graph::Initializer& initializer) { return ScalarTypeOf(initializer).ok(); }

bool Matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), FNM_NOESCAPE) == 0;
}

bool IsPlain(const std::string& pattern) { return pattern.find_first_of("*?[") == std::string::npos; }

// Marks the names that `pattern` (of the spec's list `list`) matches.
absl::Status Mark(const std::string& pattern, std::string_view list, const std::vector<std::string>& names,
                  std::set<std::string>* marked) {
  size_t matches = 0;
  for (const std::string& name : names) {
    if (name != pattern && !Matches(pattern, name)) continue;
    ++matches;
    marked->insert(name);
  }
  if (matches > 0) return absl::OkStatus();
  return InvalidArgument(list, ": '", pattern, "' matches no trainable initialiser of the model",
                         DidYouMean(pattern, names));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SelectTrained(const graph::Graph& graph, const std::vector<std::string>& train,
                                                       const std::vector<std::string>& freeze) {
  const std::vector<std::string> trainable = graph.TrainableInitializers();
  const std::vector<std::string> statistics = graph.StatisticInitializers();
  std::set<std::string> chosen, frozen;
  if (train.empty()) chosen.insert(trainable.begin(), trainable.end());
  for (const std::string& pattern : train) {
    const auto* named = graph.FindInitializer(pattern);
    bool statistic = std::find(statistics.begin(), statistics.end(), pattern) != statistics.end();
    if (IsPlain(pattern) && named != nullptr && IsFloat(*named) && !statistic) {
      chosen.insert(pattern);
    } else {
      TANDEM_RETURN_IF_ERROR(Mark(pattern, "train", trainable, &chosen));
    }
  }
  for (const std::string& pattern : freeze) TANDEM_RETURN_IF_ERROR(Mark(pattern, "freeze", trainable, &frozen));
  std::vector<std::string> result;
  for (const auto& initializer : graph.initializers()) {
    if (chosen.contains(initializer.name) && !frozen.contains(initializer.name)) result.push_back(initializer.name);
  }
  if (result.empty()) {
    return InvalidArgument("the model has nothing to train: ",
                           trainable.empty() ? "no weight is stored in the file as a float initialiser"
                                             : "'train' and 'freeze' leave no initialiser");
  }
  return result;
}

absl::StatusOr<Model> Model::Create(const graph::Graph& file, const spec::TrainSpec& spec, at::ScalarType dtype) {
  TANDEM_ASSIGN_OR_RETURN(graph::Graph graph, file.Unshared(spec.tie));
  interpreter::Program::Options options;
  options.skip_final_softmax = true;
  options.dtype = dtype;
  // The program takes any batch; the weights go back into the file as it is.
  TANDEM_ASSIGN_OR_RETURN(graph::Graph any_batch, graph::WithFreeBatch(graph));
  TANDEM_ASSIGN_OR_RETURN(interpreter::Program program, interpreter::Program::Create(any_batch, options));
  Model model(std::move(graph), std::move(program));
  TANDEM_ASSIGN_OR_RETURN(model.trained_, SelectTrained(model.graph_, spec.train, spec.freeze));
  model.statistics_ = model.graph_.StatisticInitializers();
  model.values_ = model.program_.InitialWeights();
  for (const auto* names : {&model.trained_, &model.statistics_}) {
    for (const std::string& name : *names) {
      if (!model.values_.contains(name)) return Internal("the interpreter has no initialiser '", name, "'");
      const at::ScalarType type = model.values_.at(name).scalar_type();
      if (type != at::kFloat && type != at::kDouble) {
        return InvalidArgument("initialiser '", name, "' is ", c10::toString(type),
                               ", training updates weights in float32 or float64; export the model in float32 "
                               "(precision: bf16 in the job computes in bfloat16)");
      }
    }
  }
  for (const std::string& name : model.trained_) {
    // Dense in memory, as the optimiser wants it.
    at::Tensor& weight = model.values_[name];
    if (!weight.is_non_overlapping_and_dense()) weight = weight.contiguous();
    model.weights_.push_back(weight);
  }
  return model;
}

interpreter::Values Model::WithLeaves(std::vector<at::Tensor>* leaves) const {
  interpreter::Values values = values_;
  leaves->reserve(trained_.size());
  for (size_t i = 0; i < trained_.size(); ++i) {
    leaves->push_back(weights_[i].detach().set_requires_grad(true));
    values[trained_[i]] = leaves->back();
  }
  return values;
}

absl::StatusOr<std::string> Model::ToFile() const {
  std::map<std::string, std::string> data;
  for (const auto* names : {&trained_, &statistics_}) {
    for (const std::string& name : *names) {
      TANDEM_ASSIGN_OR_RETURN(at::ScalarType dtype, ScalarTypeOf(*graph_.FindInitializer(name)));
      at::Tensor tensor = values_.at(name).to(dtype).contiguous();
      data[name] = std::string(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
    }
  }
  return graph_.Splice(data);
}

}  // namespace tandem::training
