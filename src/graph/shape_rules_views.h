#pragma once
// Rules of operators that only move or make data.
#include "graph/shape_rules.h"

namespace tandem::graph {

std::optional<Known> FlattenRule(Step& step);
std::optional<Known> ReshapeRule(Step& step);
std::optional<Known> TransposeRule(Step& step);
std::optional<Known> SqueezeRule(Step& step);
std::optional<Known> UnsqueezeRule(Step& step);
std::optional<Known> ConcatRule(Step& step);
std::optional<Known> GatherRule(Step& step);
std::optional<Known> SliceRule(Step& step);
std::optional<Known> PadRule(Step& step);
std::optional<Known> ExpandRule(Step& step);
std::optional<Known> ShapeOfRule(Step& step);
std::optional<Known> ConstantRule(Step& step);
std::optional<Known> ConstantOfShapeRule(Step& step);

// Shape, and elements if it is a small integer tensor.
Known KnownOf(const onnx::TensorProto& tensor);

}  // namespace tandem::graph
