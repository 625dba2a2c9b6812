// Gradients against finite differences, in double, for each operator that has one.
#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "interpreter/interpreter.h"
#include "interpreter/test_model.h"

namespace tandem::interpreter {
namespace {

void NoAttributes(onnx::NodeProto&) {}

struct Case {
  std::string op;
  std::vector<Shape> shapes;  // of the float inputs: the graph's input, then weights
  std::function<void(onnx::NodeProto&)> attributes = NoAttributes;
  std::vector<std::vector<int64_t>> lists;  // integer inputs that follow
  double low = -1, high = 1;
  int64_t opset = 17;
  bool training = false;
  int outputs = 1;
  std::string name = {};  // where the operator's does not tell cases apart
};

void PrintTo(const Case& c, std::ostream* out) { *out << (c.name.empty() ? c.op : c.name); }

class Gradients : public testing::TestWithParam<Case> {};

graph::Graph BuildGraph(const Case& c) {
  TestModel model(c.opset);
  std::vector<std::string> inputs, outputs;
  for (size_t i = 0; i < c.shapes.size(); ++i) {
    inputs.push_back(i == 0 ? "x" : "w" + std::to_string(i));
    if (i == 0) {
      model.Input("x", c.shapes[0]);
    } else {
      std::vector<float> numbers =
          Numbers(NumberTensor(c.shapes[i]).numel(), c.low, c.high, static_cast<uint32_t>(i) + 7);
      if (c.op == "BatchNormalization" && i == 4) {
        for (float& number : numbers) number = 0.5F + std::abs(number);
      }
      model.Floats(inputs.back(), c.shapes[i], numbers);
    }
  }
  for (size_t i = 0; i < c.lists.size(); ++i) {
    inputs.push_back("list" + std::to_string(i));
    model.Ints(inputs.back(), {static_cast<int64_t>(c.lists[i].size())}, c.lists[i]);
  }
  for (int i = 0; i < c.outputs; ++i) {
    outputs.push_back("y" + std::to_string(i));
    model.Output(outputs.back());
  }
  c.attributes(model.Node(c.op, inputs, outputs));
  return model.Build();
}

// The sum of all outputs, each element with a weight of its own so that none can hide.
at::Tensor Loss(const Program& program, const at::Tensor& x, const Values& weights, bool training) {
  RunOptions options;
  options.training = training;
  options.seed = 5;
  const auto outputs = program.Run({x}, weights, options);
  if (!outputs.ok()) throw std::runtime_error(outputs.status().ToString());
  at::Tensor loss;
  for (const at::Tensor& output : *outputs) {
    const at::Tensor factors = NumberTensor(output.sizes().vec(), at::kDouble, 0.5, 1.5, 3);
    const at::Tensor part = output.mul(factors).sum();
    loss = loss.defined() ? loss.add(part) : part;
  }
  return loss;
}

void CheckOne(const Program& program, const Case& c, const at::Tensor& x, const Values& weights, at::Tensor changed) {
  ASSERT_TRUE(changed.grad().defined());
  const at::Tensor gradient = changed.grad().contiguous();
  const c10::NoGradGuard no_grad;
  at::Tensor values = changed.detach();
  constexpr double kStep = 1e-6;
  for (int64_t i = 0; i < values.numel(); ++i) {
    // Element i in row-major order, whatever the memory order.
    at::Tensor element = values;
    int64_t rest = i;
    for (int64_t below = values.numel(), d = 0; d < values.dim(); ++d) {
      below /= values.size(d);
      element = element.select(0, rest / below);
      rest %= below;
    }
    const double old = element.item<double>();
    element.fill_(old + kStep);
    const double above = Loss(program, x, weights, c.training).item<double>();
    element.fill_(old - kStep);
    const double below = Loss(program, x, weights, c.training).item<double>();
    element.fill_(old);
    const double expected = (above - below) / (2 * kStep);
    EXPECT_NEAR(gradient.view({-1})[i].item<double>(), expected, 1e-5 * std::max(1.0, std::abs(expected)))
        << "element " << i;
  }
}

TEST_P(Gradients, EqualFiniteDifferences) {
  const Case& c = GetParam();
  const graph::Graph graph = BuildGraph(c);
  for (const bool channels_last : {false, true}) {
    Program::Options options;
    options.dtype = at::kDouble;
    options.channels_last = channels_last;
    const auto program = Program::Create(graph, options);
    ASSERT_TRUE(program.ok()) << program.status();
    at::Tensor x = NumberTensor(c.shapes[0], at::kDouble, c.low, c.high).requires_grad_(true);
    Values weights = program->InitialWeights();
    for (auto& [name, weight] : weights) {
      const bool statistic = c.op == "BatchNormalization" && (name == "w3" || name == "w4");
      weight.requires_grad_(!statistic && c.op != "Clip");
    }
    Loss(*program, x, weights, c.training).backward();
    CheckOne(*program, c, x, weights, x);
    for (auto& [name, weight] : weights) {
      SCOPED_TRACE(name);
      if (weight.requires_grad()) CheckOne(*program, c, x, weights, weight);
    }
  }
}

using Node = onnx::NodeProto;
using List = std::vector<int64_t>;

INSTANTIATE_TEST_SUITE_P(Convolutions, Gradients,
                         testing::Values(Case{"Conv",
                                              {{2, 3, 5, 4}, {4, 3, 3, 3}, {4}},
                                              [](Node& n) {
                                                Set(n, "pads", List{1, 1, 1, 1});
                                              }},
                                         Case{"Conv",
                                              {{2, 4, 5, 5}, {4, 1, 3, 3}},
                                              [](Node& n) {
                                                Set(Set(n, "group", 4), "pads", List{0, 1, 1, 0});
                                              }},
                                         Case{"Conv",
                                              {{1, 2, 8}, {3, 2, 3}},
                                              [](Node& n) { Set(Set(n, "dilations", List{2}), "strides", List{2}); }},
                                         Case{"Conv", {{1, 1, 3, 4, 3}, {2, 1, 2, 2, 2}, {2}}, [](Node& n) {
                                                SetText(n, "auto_pad", "SAME_LOWER");
                                              }}));

INSTANTIATE_TEST_SUITE_P(
    Pools, Gradients,
    testing::Values(Case{"MaxPool",
                         {{2, 2, 5, 5}},
                         [](Node& n) {
                           Set(Set(n, "kernel_shape", List{3, 3}), "strides", List{2, 2});
                         }},
                    Case{"MaxPool",
                         {{2, 2, 6, 6}},
                         [](Node& n) {
                           Set(Set(Set(n, "kernel_shape", List{3, 3}), "strides", List{2, 2}), "ceil_mode", 1);
                         }},
                    Case{"AveragePool",
                         {{2, 2, 5, 5}},
                         [](Node& n) {
                           Set(Set(n, "kernel_shape", List{3, 3}), "pads", List{1, 1, 1, 1});
                         }},
                    Case{"AveragePool",
                         {{1, 2, 5, 6}},
                         [](Node& n) {
                           Set(Set(n, "kernel_shape", List{2, 3}), "pads", List{0, 1, 1, 2});
                         }},
                    Case{"GlobalAveragePool", {{2, 3, 3, 2}}}, Case{"GlobalMaxPool", {{2, 3, 3, 2}}}));

INSTANTIATE_TEST_SUITE_P(
    Normalisations, Gradients,
    testing::Values(Case{.op = "BatchNormalization", .shapes = {{3, 2, 3, 2}, {2}, {2}, {2}, {2}}, .training = true},
                    Case{.op = "BatchNormalization", .shapes = {{5, 3}, {3}, {3}, {3}, {3}}, .training = true},
                    Case{.op = "BatchNormalization", .shapes = {{3, 2, 3, 2}, {2}, {2}, {2}, {2}}},
                    Case{.op = "Dropout", .shapes = {{6, 4}}, .training = true},
                    Case{.op = "LayerNormalization", .shapes = {{3, 4}, {4}, {4}}}));

INSTANTIATE_TEST_SUITE_P(Activations, Gradients,
                         testing::Values(Case{"Relu", {{3, 4}}}, Case{"Elu", {{3, 4}}}, Case{"HardSigmoid", {{3, 4}}},
                                         Case{"HardSwish", {{3, 4}}}, Case{"Softplus", {{3, 4}}},
                                         Case{"PRelu", {{3, 4}, {4}}},
                                         Case{.op = "Gelu", .shapes = {{3, 4}}, .opset = 20},
                                         Case{"Reciprocal", {{3, 4}}, NoAttributes, {}, 0.5, 2},
                                         Case{"Sigmoid", {{3, 4}}}, Case{"Tanh", {{3, 4}}}, Case{"Erf", {{3, 4}}},
                                         Case{"LeakyRelu", {{3, 4}}, [](Node& n) { SetFloat(n, "alpha", 0.2F); }},
                                         Case{"Exp", {{3, 4}}}, Case{"Log", {{3, 4}}, NoAttributes, {}, 0.5, 2},
                                         Case{"Sqrt", {{3, 4}}, NoAttributes, {}, 0.5, 2}, Case{"Abs", {{3, 4}}},
                                         Case{"Neg", {{3, 4}}}, Case{"Softmax", {{3, 4}}}, Case{"LogSoftmax", {{3, 4}}},
                                         Case{.op = "Softmax", .shapes = {{2, 3, 2}}, .opset = 11},
                                         Case{"Clip", {{3, 4}, {}}}));

INSTANTIATE_TEST_SUITE_P(Arithmetic, Gradients,
                         testing::Values(Case{"Add", {{3, 4}, {4}}}, Case{"Sub", {{3, 4}, {3, 1}}},
                                         Case{"Mul", {{3, 4}, {1, 4}}},
                                         Case{"Div", {{3, 4}, {4}}, NoAttributes, {}, 0.5, 2},
                                         Case{"Pow", {{3, 4}, {4}}, NoAttributes, {}, 0.5, 2},
                                         Case{"Min", {{3, 4}, {4}}}, Case{"Max", {{3, 4}, {4}, {3, 4}}},
                                         Case{"Sum", {{3, 4}, {4}}}));

INSTANTIATE_TEST_SUITE_P(
    MatricesAndReductions, Gradients,
    testing::Values(Case{"Gemm", {{3, 4}, {5, 4}, {5}}, [](Node& n) { SetFloat(Set(n, "transB", 1), "alpha", 0.5F); }},
                    Case{"Gemm", {{4, 3}, {4, 2}}, [](Node& n) { SetFloat(Set(n, "transA", 1), "alpha", 2); }},
                    Case{"MatMul", {{2, 3, 4}, {4, 2}}},
                    Case{"ReduceMean",
                         {{2, 3, 2, 2}},
                         [](Node& n) {
                           Set(Set(n, "axes", List{-1, -2}), "keepdims", 0);
                         }},
                    Case{.op = "ReduceSum", .shapes = {{2, 3, 2}}, .lists = {{1}}},
                    Case{"ReduceMax", {{2, 3, 2}}, [](Node& n) { Set(n, "axes", List{1}); }},
                    Case{.op = "ReduceMin", .shapes = {{2, 3, 2}}, .lists = {{0, 2}}, .opset = 18}));

INSTANTIATE_TEST_SUITE_P(
    Shapes, Gradients,
    testing::Values(Case{"Flatten", {{2, 3, 2}}}, Case{.op = "Reshape", .shapes = {{2, 3, 2}}, .lists = {{0, -1}}},
                    Case{"Transpose",
                         {{2, 3, 2}},
                         [](Node& n) {
                           Set(n, "perm", List{2, 0, 1});
                         }},
                    Case{.op = "Squeeze", .shapes = {{2, 1, 3}}, .lists = {{1}}},
                    Case{.op = "Unsqueeze", .shapes = {{2, 3}}, .lists = {{-1, 0}}},
                    Case{"Concat", {{2, 3}, {2, 2}}, [](Node& n) { Set(n, "axis", 1); }}, Case{"Identity", {{2, 3}}},
                    Case{.op = "Expand", .shapes = {{1, 3}}, .lists = {{2, 2, 1}}},
                    Case{.op = "Gather", .shapes = {{4, 3}}, .lists = {{-1, 0, 3}}},
                    Case{.op = "Slice", .shapes = {{4, 5}}, .lists = {{3, 0}, {-100, 1L << 40}, {0, -1}, {-2, 3}}},
                    Case{.op = "Split", .shapes = {{5, 2}}, .lists = {{2, 3}}, .outputs = 2},
                    Case{.op = "Pad", .shapes = {{2, 3}}, .lists = {{1, 0, 0, 2}}},
                    Case{"Pad", {{3, 4}}, [](Node& n) { SetText(n, "mode", "reflect"); }, {{1, 2, 2, 1}}},
                    Case{"Pad", {{3, 4}}, [](Node& n) { SetText(n, "mode", "edge"); }, {{1, 0, 2, 3}}}));

}  // namespace
}  // namespace tandem::interpreter
