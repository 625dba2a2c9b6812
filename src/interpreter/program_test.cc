#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "base/strings.h"
#include "interpreter/dropout.h"
#include "interpreter/interpreter.h"
#include "interpreter/test_model.h"

namespace tandem::interpreter {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Not;

Program Make(const graph::Graph& graph, Program::Options options = {}) {
  auto program = Program::Create(graph, options);
  if (!program.ok()) throw std::runtime_error(program.status().ToString());
  return std::move(program).value();
}

std::vector<at::Tensor> RunGraph(const Program& program, const std::vector<at::Tensor>& inputs,
                                 const Values& weights = {}, const RunOptions& options = {}) {
  auto outputs = program.Run(inputs, weights, options);
  if (!outputs.ok()) throw std::runtime_error(outputs.status().ToString());
  return std::move(outputs).value();
}

std::string CreateError(const graph::Graph& graph) {
  const auto program = Program::Create(graph);
  return program.ok() ? "OK" : std::string(MessageOf(program.status()));
}

std::string RunError(const Program& program, const std::vector<at::Tensor>& inputs, const Values& weights = {}) {
  const auto outputs = program.Run(inputs, weights, {});
  if (outputs.ok()) return "OK";
  EXPECT_EQ(outputs.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(MessageOf(outputs.status()));
}

graph::Graph SmallNet() {
  TestModel model;
  model.Input("x", {-1, 3, 6, 6}).Output("probabilities");
  model.Floats("conv.weight", {4, 3, 3, 3}, Numbers(108)).Floats("fc.weight", {5, 4}, Numbers(20, -1, 1, 2));
  model.Floats("fc.bias", {5}, Numbers(5, -1, 1, 3));
  model.Node("Conv", {"x", "conv.weight"}, {"a"});
  model.Node("Relu", {"a"}, {"b"});
  model.Node("GlobalAveragePool", {"b"}, {"c"});
  model.Node("Flatten", {"c"}, {"d"});
  Set(model.Node("Gemm", {"d", "fc.weight", "fc.bias"}, {"logits"}), "transB", 1);
  model.Node("Softmax", {"logits"}, {"probabilities"});
  return model.Build();
}

TEST(Program, GivesLogitsWhenTheFinalSoftmaxIsSkipped) {
  const graph::Graph graph = SmallNet();
  const at::Tensor x = NumberTensor({2, 3, 6, 6});
  Program::Options options;
  options.skip_final_softmax = true;
  const at::Tensor logits = RunGraph(Make(graph, options), {x})[0];
  const at::Tensor probabilities = RunGraph(Make(graph), {x})[0];
  EXPECT_TRUE(logits.softmax(1).equal(probabilities));
}

TEST(Program, HandsOutItsWeightsAndTakesOthers) {
  const Program program = Make(SmallNet());
  Values weights = program.InitialWeights();
  ASSERT_EQ(weights.size(), 3u);
  EXPECT_EQ(weights.at("fc.bias").sizes(), at::IntArrayRef({5}));
  EXPECT_TRUE(weights.at("conv.weight").is_contiguous(at::MemoryFormat::ChannelsLast));
  const at::Tensor x = NumberTensor({2, 3, 6, 6});
  const at::Tensor before = RunGraph(program, {x})[0];
  EXPECT_TRUE(RunGraph(program, {x}, weights)[0].equal(before));
  weights.at("fc.bias")[0].fill_(10);
  EXPECT_FALSE(RunGraph(program, {x}, weights)[0].equal(before));
  EXPECT_TRUE(RunGraph(program, {x})[0].equal(before)) << "the program's own weights changed";
}

TEST(Program, TakesAnyBatchAndConvertsFloats) {
  Program::Options options;
  options.dtype = at::kDouble;
  const Program program = Make(SmallNet(), options);
  const at::Tensor y = RunGraph(program, {NumberTensor({7, 3, 6, 6})})[0];
  EXPECT_EQ(y.sizes(), at::IntArrayRef({7, 5}));
  EXPECT_EQ(y.scalar_type(), at::kDouble);
}

TEST(Program, NamesInputsAndWeightsThatDoNotFit) {
  const Program program = Make(SmallNet());
  const at::Tensor x = NumberTensor({2, 3, 6, 6});
  EXPECT_THAT(RunError(program, {}), HasSubstr("takes 1 inputs, got 0"));
  EXPECT_THAT(RunError(program, {at::Tensor()}), HasSubstr("input 'x' is missing"));
  EXPECT_THAT(RunError(program, {NumberTensor({2, 3, 6})}), HasSubstr("input 'x' has shape [2,3,6]"));
  EXPECT_THAT(RunError(program, {NumberTensor({2, 3, 6, 5})}), HasSubstr("the graph takes [-1,3,6,6]"));
  EXPECT_THAT(RunError(program, {x.to(at::kLong)}), HasSubstr("input 'x' holds Long"));
  EXPECT_THAT(RunError(program, {x}, {{"fc.bais", x}}), HasSubstr("weight 'fc.bais' is no float initialiser"));
  EXPECT_THAT(RunError(program, {x}, {{"fc.bias", x}}), HasSubstr("weight 'fc.bias' must be Float [5]"));
}

TEST(Program, NamesTheNodeThatFails) {
  TestModel model;
  model.Input("x", {-1, -1}).Output("y").Floats("w", {3, 2}, Numbers(6));
  model.Node("MatMul", {"x", "w"}, {"y"});
  const std::string error = RunError(Make(model.Build()), {NumberTensor({2, 4})});
  EXPECT_THAT(error, AllOf(HasSubstr("node 'MatMul1' (MatMul): "), Not(HasSubstr("\n"))));
}

TEST(Program, NamesEveryOperatorAndAttributeThatItCannotRun) {
  TestModel model;
  model.Input("x", {1, 2, 4, 4}).Output("y").Output("indices", DType::kInt64);
  model.Node("Sin", {"x"}, {"a"});
  model.Node("NonZero", {"a"}, {"b"});
  Set(model.Node("Relu", {"b"}, {"c"}), "strange", 1);
  Set(model.Node("MaxPool", {"c"}, {"y", "indices"}), "kernel_shape", std::vector<int64_t>{2, 2});
  EXPECT_THAT(CreateError(model.Build()),
              AllOf(HasSubstr("node 'Sin1' (Sin): operator Sin is not supported"), HasSubstr("'NonZero2'"),
                    HasSubstr("node 'Relu3' (Relu): attribute 'strange' is not known in opset 17"),
                    HasSubstr("node 'MaxPool4' (MaxPool): output Indices")));
}

TEST(Program, RunsShapeArithmeticOfDynamicInputs) {
  TestModel model;
  model.Input("x", {-1, 2, 3}).Output("y").Ints("zero", {}, {0}).Ints("minus_one", {1}, {-1}).Ints("axis", {1}, {0});
  model.Node("Shape", {"x"}, {"shape"});
  model.Node("Gather", {"shape", "zero"}, {"n"});
  model.Node("Unsqueeze", {"n", "axis"}, {"n1"});
  Set(model.Node("Concat", {"n1", "minus_one"}, {"target"}), "axis", 0);
  model.Node("Reshape", {"x", "target"}, {"y"});
  const Program program = Make(model.Build());
  EXPECT_EQ(RunGraph(program, {NumberTensor({4, 2, 3})})[0].sizes(), at::IntArrayRef({4, 6}));
  EXPECT_EQ(RunGraph(program, {NumberTensor({1, 2, 3})})[0].sizes(), at::IntArrayRef({1, 6}));
}

TEST(Program, ReportsWhatFailsWhileConstantsAreFolded) {
  TestModel model;
  model.Input("x", {2}).Output("y").Ints("one", {1}, {1}).Ints("zero", {1}, {0});
  model.Node("Div", {"one", "zero"}, {"q"});
  model.Node("Reshape", {"x", "q"}, {"y"});
  EXPECT_THAT(CreateError(model.Build()), HasSubstr("node 'Div1' (Div): "));
}

TEST(Program, SurvivesTheDivisionThatCpusTrapOn) {
  TestModel model;
  model.Input("x", {2}).Output("y", DType::kInt64).Output("rest", DType::kInt64);
  model.Ints("least", {1}, {INT64_MIN}).Ints("minus", {1}, {-1});
  model.Node("Div", {"least", "minus"}, {"y"});
  model.Node("Mod", {"least", "minus"}, {"rest"});
  const auto outputs = RunGraph(Make(model.Build()), {NumberTensor({2})});
  EXPECT_EQ(outputs[0].item<int64_t>(), INT64_MIN);
  EXPECT_EQ(outputs[1].item<int64_t>(), 0);
}

TEST(Program, RefusesIndicesOutsideTheTensor) {
  TestModel model;
  model.Input("x", {2, 3}).Input("i", {-1}, DType::kInt64).Output("y");
  model.Node("Gather", {"x", "i"}, {"y"});
  const Program program = Make(model.Build());
  const at::Tensor indices = at::empty({1}, at::kLong);
  for (const int64_t outside : {int64_t{2}, int64_t{-3}, INT64_MAX, INT64_MIN}) {
    EXPECT_THAT(RunError(program, {NumberTensor({2, 3}), indices.fill_(outside)}), HasSubstr("'Gather1'"));
  }
  EXPECT_THAT(ToFloats(RunGraph(program, {FromFloats({2, 3}, {1, 2, 3, 4, 5, 6}), indices.fill_(-1)})[0]),
              ElementsAre(4, 5, 6));
}

// What PyTorch's exporters write with optimize=False and training=PRESERVE: constants cast and expanded to shape,
// pooling as ReduceMean, BatchNormalization with training_mode=1 and three outputs.
graph::Graph ExportedNet() {
  TestModel model(18);
  model.Input("x", {-1, 2, 4, 4}).Output("y");
  model.Floats("w", {3, 2, 3, 3}, Numbers(54)).Floats("scale", {3}, {1, 1, 1}).Floats("bias", {3}, {0, 0, 0});
  model.Floats("mean", {3}, {0, 0, 0}).Floats("var", {3}, {1, 1, 1}).Ints("axes", {2}, {-1, -2}).Ints("start", {}, {1});
  SetFloat(model.Node("Constant", {}, {"two"}), "value_float", 2);
  model.Node("CastLike", {"two", "x"}, {"two_x"});
  model.Node("Shape", {"x"}, {"shape"});
  model.Node("Expand", {"two_x", "shape"}, {"twos"});
  model.Node("Div", {"x", "twos"}, {"half"});
  model.Node("Conv", {"half", "w"}, {"conv"});
  model.Node("Identity", {"mean"}, {"mean_copy"});
  Set(model.Node("BatchNormalization", {"conv", "scale", "bias", "mean_copy", "var"}, {"bn", "new_mean", "new_var"}),
      "training_mode", 1);
  model.Node("Relu", {"bn"}, {"relu"});
  Set(model.Node("ReduceMean", {"relu", "axes"}, {"y"}), "keepdims", 0);
  return model.Build();
}

TEST(Program, TrainsWhatExportersWrite) {
  const Program program = Make(ExportedNet());
  Values weights = program.InitialWeights();
  for (const char* name : {"w", "scale", "bias"}) weights.at(name).requires_grad_(true);
  std::vector<BatchStatistics> statistics;
  RunOptions options;
  options.training = true;
  options.statistics = &statistics;
  const at::Tensor y = RunGraph(program, {NumberTensor({5, 2, 4, 4})}, weights, options)[0];
  ASSERT_EQ(y.sizes(), at::IntArrayRef({5, 3}));
  y.pow(2).sum().backward();
  EXPECT_GT(weights.at("w").grad().abs().max().item<float>(), 0);
  EXPECT_GT(weights.at("scale").grad().abs().max().item<float>(), 0);
  ASSERT_EQ(statistics.size(), 1u);
  EXPECT_EQ(statistics[0].mean_name, "mean");
  EXPECT_EQ(statistics[0].variance_name, "var");
  EXPECT_TRUE(statistics[0].onnx_rule);
}

graph::Graph BatchNormNet(bool onnx_rule) {
  TestModel model;
  model.Input("x", {-1, 2}).Output("y");
  model.Floats("scale", {2}, {1, 1}).Floats("bias", {2}, {0, 0}).Floats("mean", {2}, {0, 0}).Floats("var", {2}, {4, 4});
  std::vector<std::string> outputs = {"y"};
  if (onnx_rule) {
    outputs = {"y", "new_mean", "new_var"};
    model.Output("new_mean").Output("new_var");
  }
  auto& node = model.Node("BatchNormalization", {"x", "scale", "bias", "mean", "var"}, outputs);
  if (onnx_rule) Set(node, "training_mode", 1);
  return model.Build();
}

TEST(BatchNorm, GivesTheBatchsStatistics) {
  const Program program = Make(BatchNormNet(false));
  std::vector<BatchStatistics> statistics;
  RunOptions options;
  options.training = true;
  options.statistics = &statistics;
  // Column 0: 1, 2, 6 has mean 3, squares 4 + 1 + 9; column 1: 0, 4, 8 has mean 4, squares 16 + 0 + 16.
  const at::Tensor y = RunGraph(program, {FromFloats({3, 2}, {1, 0, 2, 4, 6, 8})}, {}, options)[0];
  ASSERT_EQ(statistics.size(), 1u);
  const BatchStatistics& s = statistics[0];
  EXPECT_EQ(s.n, 3);
  EXPECT_EQ(s.momentum, 0.1);
  EXPECT_FALSE(s.onnx_rule);
  EXPECT_THAT(ToFloats(s.mean), ElementsAre(3, 4));
  EXPECT_THAT(ToFloats(s.unbiased_variance), ElementsAre(7, 16));
  EXPECT_THAT(ToFloats(s.variance), ElementsAre(14.0F / 3, 32.0F / 3));
  EXPECT_NEAR(ToFloats(y)[0], -2 / std::sqrt(14.0 / 3), 1e-5);
}

TEST(BatchNorm, UsesTheFilesStatisticsWithoutTraining) {
  for (const bool onnx_rule : {false, true}) {
    const at::Tensor y = RunGraph(Make(BatchNormNet(onnx_rule)), {FromFloats({1, 2}, {2, 6})})[0];
    EXPECT_NEAR(ToFloats(y)[0], 1, 1e-5);
    EXPECT_NEAR(ToFloats(y)[1], 3, 1e-5);
  }
}

TEST(BatchNorm, FoldsThePopulationVarianceUnderTheOnnxRule) {
  RunOptions options;
  options.training = true;
  const auto outputs = RunGraph(Make(BatchNormNet(true)), {FromFloats({3, 2}, {1, 0, 2, 4, 6, 8})}, {}, options);
  EXPECT_NEAR(ToFloats(outputs[1])[0], 0.9 * 0 + 0.1 * 3, 1e-6);
  EXPECT_NEAR(ToFloats(outputs[2])[0], 0.9 * 4 + 0.1 * 14 / 3, 1e-6);
}

TEST(BatchNorm, LearnsNothingFromOneValue) {
  std::vector<BatchStatistics> statistics(1);
  RunOptions options;
  options.training = true;
  options.statistics = &statistics;
  const at::Tensor y = RunGraph(Make(BatchNormNet(false)), {FromFloats({1, 2}, {5, 6})}, {}, options)[0];
  EXPECT_TRUE(statistics.empty());
  EXPECT_THAT(ToFloats(y), ElementsAre(FloatNear(0, 1e-3), FloatNear(0, 1e-3)));
}

graph::Graph DropoutNet() {
  TestModel model;
  model.Input("x", {-1, 3, 40}).Output("y").Output("mask", DType::kBool).Output("z");
  model.Floats("ratio", {}, {0.25F}).Ints("flat", {2}, {-1, 40});
  model.Node("Dropout", {"x", "ratio"}, {"y", "mask"});
  model.Node("Reshape", {"x", "flat"}, {"rows"});
  model.Node("Dropout", {"rows", "ratio"}, {"z"});
  return model.Build();
}

TEST(Dropout, DropsTheShareThatItShouldAndScalesTheRest) {
  const Program program = Make(DropoutNet());
  RunOptions options;
  options.training = true;
  const at::Tensor x = NumberTensor({200, 3, 40}, at::kFloat, 1, 2);
  const auto out = RunGraph(program, {x}, {}, options);
  EXPECT_NEAR(out[1].to(at::kFloat).mean().item<float>(), 0.75, 0.01);
  EXPECT_TRUE(out[0].allclose(x.mul(out[1]).div(0.75)));
  EXPECT_FALSE(out[0].reshape({-1, 40}).equal(out[2])) << "two nodes drew the same mask";
  EXPECT_TRUE(RunGraph(program, {x})[0].equal(x)) << "active without training";
}

TEST(Dropout, DependsOnSeedAndStep) {
  const Program program = Make(DropoutNet());
  const at::Tensor x = NumberTensor({4, 3, 40}, at::kFloat, 1, 2);
  RunOptions options;
  options.training = true;
  const at::Tensor first = RunGraph(program, {x}, {}, options)[0];
  EXPECT_TRUE(RunGraph(program, {x}, {}, options)[0].equal(first));
  options.step = 1;
  EXPECT_FALSE(RunGraph(program, {x}, {}, options)[0].equal(first));
  options.step = 0;
  options.seed = 1;
  EXPECT_FALSE(RunGraph(program, {x}, {}, options)[0].equal(first));
}

TEST(Dropout, DoesNotDependOnHowTheBatchIsCut) {
  const Program program = Make(DropoutNet());
  const at::Tensor x = NumberTensor({7, 3, 40}, at::kFloat, 1, 2);
  RunOptions options;
  options.training = true;
  options.first_sample = 100;
  const auto whole = RunGraph(program, {x}, {}, options);
  const auto front = RunGraph(program, {x.slice(0, 0, 3)}, {}, options);
  options.first_sample = 103;
  const auto back = RunGraph(program, {x.slice(0, 3, 7)}, {}, options);
  for (size_t i : {0u, 2u}) {  // also where a reshape has cut each sample into rows
    const int64_t rows = front[i].size(0);
    EXPECT_TRUE(whole[i].slice(0, 0, rows).equal(front[i]));
    EXPECT_TRUE(whole[i].slice(0, rows).equal(back[i]));
  }
}

TEST(Dropout, DrawsPhilox) {
  // The known answer of the generator's authors for key and counter zero: the words of block 0, 16 blocks side by side.
  std::vector<uint32_t> numbers(70);
  SampleNumbers(0, 0, 0, 0, numbers);
  EXPECT_EQ(numbers[0], 0x6627e8d5);
  EXPECT_EQ(numbers[16], 0xe169c58d);
  EXPECT_EQ(numbers[32], 0xbc57ac4c);
  EXPECT_EQ(numbers[48], 0x9b00dbd8);
  std::vector<uint32_t> few(66);
  SampleNumbers(0, 0, 0, 0, few);
  EXPECT_TRUE(std::equal(few.begin(), few.end(), numbers.begin()));
}

TEST(Program, GivesIdenticalBitsOnTwoThreads) {
  at::set_num_threads(1);
  const Program program = Make(ExportedNet());
  const at::Tensor x = NumberTensor({16, 2, 4, 4});
  const auto run = [&] {
    at::set_num_threads(1);
    Values weights = program.InitialWeights();
    weights.at("w").requires_grad_(true);
    std::vector<BatchStatistics> statistics;
    RunOptions options;
    options.training = true;
    options.statistics = &statistics;
    at::Tensor total;
    for (int i = 0; i < 20; ++i) {
      RunGraph(program, {x}, weights, options)[0].pow(2).sum().backward();
      EXPECT_EQ(statistics.size(), 1u);
    }
    return weights.at("w").grad().clone();
  };
  const at::Tensor alone = run();
  std::vector<at::Tensor> together(2);
  {
    std::jthread first([&] { together[0] = run(); });
    std::jthread second([&] { together[1] = run(); });
  }
  EXPECT_TRUE(together[0].equal(alone));
  EXPECT_TRUE(together[1].equal(alone));
}

TEST(Program, KeepsChannelsLastThroughALayer) {
  TestModel model;
  model.Input("x", {-1, 1, 6, 6}).Output("y");
  model.Floats("w", {4, 1, 3, 3}, Numbers(36)).Floats("c", {4}, {1, 2, 3, 4});
  model.Node("Conv", {"x", "w"}, {"a"});
  model.Node("BatchNormalization", {"a", "c", "c", "c", "c"}, {"b"});
  model.Node("Relu", {"b"}, {"d"});
  Set(model.Node("MaxPool", {"d"}, {"y"}), "kernel_shape", std::vector<int64_t>{2, 2});
  const at::Tensor x = NumberTensor({2, 1, 6, 6});
  const graph::Graph graph = model.Build();
  const at::Tensor y = RunGraph(Make(graph), {x})[0];
  EXPECT_EQ(y.suggest_memory_format(), at::MemoryFormat::ChannelsLast);
  Program::Options rows;
  rows.channels_last = false;
  const at::Tensor contiguous = RunGraph(Make(graph, rows), {x})[0];
  EXPECT_EQ(contiguous.suggest_memory_format(), at::MemoryFormat::Contiguous);
  EXPECT_TRUE(y.allclose(contiguous, 1e-4, 1e-5));
}

TEST(SupportedOperators, AreSortedAndContainTheUsual) {
  const auto names = SupportedOperators();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_THAT(names, testing::IsSupersetOf({"Conv", "BatchNormalization", "Gemm", "CastLike", "Where"}));
}

}  // namespace
}  // namespace tandem::interpreter
