// The same weights, batches and optimiser give what PyTorch gives. tests/exports/make_fixtures.py made the references.
#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/files.h"
#include "data/dataset.h"
#include "training/optimizer.h"
#include "training/step.h"

namespace tandem::training {
namespace {

constexpr int64_t kSteps = 10, kBatch = 8;

// A .npz file as tensors.
class Arrays {
 public:
  explicit Arrays(const std::string& path) {
    auto bytes = ReadFile(path);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    auto tensors = data::ReadNpz(bytes.value_or(""));
    EXPECT_TRUE(tensors.ok()) << tensors.status();
    if (tensors.ok()) tensors_ = *std::move(tensors);
    for (Tensor& tensor : tensors_) {
      at::ScalarType type = tensor.dtype == DType::kInt64     ? at::kLong
                            : tensor.dtype == DType::kFloat64 ? at::kDouble
                                                              : at::kFloat;
      by_name_[tensor.name] = at::from_blob(tensor.buffer.data(), tensor.shape, type);
    }
  }
  const at::Tensor& operator[](const std::string& name) const { return by_name_.at(name); }

 private:
  std::vector<Tensor> tensors_;  // owns the memory
  std::map<std::string, at::Tensor> by_name_;
};

struct Case {
  std::string network, optimizer;
};

class PyTorchParity : public testing::TestWithParam<Case> {
 protected:
  static std::string DataFile(const std::string& name) {
    return std::string(TANDEM_SOURCE_DIR) + "/tests/exports/data/train." + name;
  }
  spec::TrainSpec Spec() const {
    spec::TrainSpec spec;
    spec.batch = kBatch;
    spec.micro_batch = kBatch;
    spec.optimizer.name = GetParam().optimizer == "adamw" ? "adamw" : "sgd";
    spec.optimizer.lr = GetParam().optimizer == "adamw" ? 0.001 : 0.05;
    spec.optimizer.nesterov = GetParam().optimizer == "nesterov";
    const std::map<std::string, double> decay = {{"sgd", 0}, {"nesterov", 5e-4}, {"adamw", 0.01}};
    spec.optimizer.weight_decay = decay.at(GetParam().optimizer);
    return spec;
  }
  Model MakeModel(at::ScalarType dtype) const {
    auto graph = graph::Graph::Load(DataFile(GetParam().network + ".onnx"));
    EXPECT_TRUE(graph.ok()) << graph.status();
    auto model = Model::Create(*graph, Spec(), dtype);
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }
  Batch BatchOf(int64_t step) const { return {arrays_["images"][step], arrays_["labels"][step]}; }
  absl::StatusOr<Gradients> GradientsOf(const Model& model, int64_t step, at::ScalarType dtype) {
    StepOptions options;
    options.precision.weights = dtype;
    return ComputeGradients(model, BatchOf(step), Plan(kBatch * kSteps, Spec()), step, options, &pool_);
  }

  const Arrays arrays_{DataFile(GetParam().network + ".npz")};
  WorkerPool pool_{2};
};

TEST_P(PyTorchParity, TenStepsInDoubleAgree) {
  const Model model = MakeModel(at::kDouble);
  const std::string& name = GetParam().optimizer;
  auto optimizer = MakeOptimizer(Spec().optimizer, model.weights());
  const at::Tensor& losses = arrays_[name + "/losses"];
  for (int64_t step = 0; step < kSteps; ++step) {
    auto gradients = GradientsOf(model, step, at::kDouble);
    ASSERT_TRUE(gradients.ok()) << gradients.status();
    EXPECT_NEAR(gradients->loss, losses[step].item<double>(), 1e-9) << "step " << step;
    absl::Status applied = ApplyGradients(*gradients, step, Spec().optimizer.lr, model, optimizer.get(), &pool_);
    ASSERT_TRUE(applied.ok()) << applied;
  }
  for (const auto* names : {&model.trained(), &model.statistics()}) {
    for (const std::string& weight : *names) {
      const at::Tensor expected = arrays_[name + "/after/" + weight];
      EXPECT_LT((model.values().at(weight) - expected).abs().max().item<double>(), 1e-9) << weight;
    }
  }
}

TEST_P(PyTorchParity, TheFirstGradientInFloatAgrees) {
  const Model model = MakeModel(at::kFloat);
  auto gradients = GradientsOf(model, 0, at::kFloat);
  ASSERT_TRUE(gradients.ok()) << gradients.status();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < model.trained().size(); ++i) {
    const at::Tensor expected = arrays_["gradient/" + model.trained()[i]].to(at::kDouble);
    difference += (gradients->sum[i].to(at::kDouble) - expected).square().sum().item<double>();
    norm += expected.square().sum().item<double>();
  }
  EXPECT_GT(norm, 0);
  EXPECT_LT(std::sqrt(difference), 1e-4 * std::sqrt(norm));
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const char* network : {"residual", "mlp", "softmax", "pooling"}) {
    for (const char* optimizer : {"sgd", "nesterov", "adamw"}) cases.push_back({network, optimizer});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Networks, PyTorchParity, testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.network + "_" + info.param.optimizer; });

}  // namespace
}  // namespace tandem::training
