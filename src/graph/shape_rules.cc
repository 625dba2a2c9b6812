#include "graph/shape_rules.h"

#include <algorithm>
#include <iterator>

#include "graph/shape_rules_layers.h"
#include "graph/shape_rules_views.h"

namespace tandem::graph {
namespace {

struct Row {
  std::string_view op;
  ShapeRule rule;
};

constexpr Row kRules[] = {
    {"Abs", SameShape},
    {"Add", AddRule},
    {"AveragePool", PoolRule},
    {"BatchNormalization", SameShape},
    {"Cast", SameShape},
    {"CastLike", SameShape},
    {"Clip", SameShape},
    {"Concat", ConcatRule},
    {"Constant", ConstantRule},
    {"ConstantOfShape", ConstantOfShapeRule},
    {"Conv", ConvRule},
    {"Div", DivRule},
    {"Dropout", SameShape},
    {"Elu", SameShape},
    {"Erf", SameShape},
    {"Exp", SameShape},
    {"Expand", ExpandRule},
    {"Flatten", FlattenRule},
    {"Gather", GatherRule},
    {"Gelu", SameShape},
    {"Gemm", GemmRule},
    {"GlobalAveragePool", GlobalPoolRule},
    {"GlobalMaxPool", GlobalPoolRule},
    {"HardSigmoid", SameShape},
    {"HardSwish", SameShape},
    {"Identity", SameShape},
    {"InstanceNormalization", SameShape},
    {"LayerNormalization", SameShape},
    {"LeakyRelu", SameShape},
    {"Log", SameShape},
    {"LogSoftmax", SameShape},
    {"MatMul", MatMulRule},
    {"MaxPool", PoolRule},
    {"Mul", MulRule},
    {"Neg", SameShape},
    {"PRelu", SameShape},
    {"Pad", PadRule},
    {"Pow", BroadcastRule},
    {"Reciprocal", SameShape},
    {"ReduceMax", ReduceRule},
    {"ReduceMean", ReduceRule},
    {"ReduceSum", ReduceRule},
    {"Relu", SameShape},
    {"Reshape", ReshapeRule},
    {"Shape", ShapeOfRule},
    {"Sigmoid", SameShape},
    {"Slice", SliceRule},
    {"Softmax", SameShape},
    {"Softplus", SameShape},
    {"Sqrt", SameShape},
    {"Squeeze", SqueezeRule},
    {"Sub", SubRule},
    {"Sum", BroadcastRule},
    {"Tanh", SameShape},
    {"Transpose", TransposeRule},
    {"Unsqueeze", UnsqueezeRule},
};

}  // namespace

ShapeRule FindShapeRule(std::string_view op) {
  const auto* found = std::find_if(std::begin(kRules), std::end(kRules), [&](const Row& row) { return row.op == op; });
  return found == std::end(kRules) ? nullptr : found->rule;
}

std::optional<int64_t> Product(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

std::optional<int64_t> Product(const std::vector<int64_t>& factors) {
  std::optional<int64_t> product = 1;
  for (int64_t factor : factors) {
    product = Product(*product, factor);
    if (!product) return std::nullopt;
  }
  return product;
}

}  // namespace tandem::graph
