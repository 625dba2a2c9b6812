#pragma once
// Rules of operators that compute: element-wise, convolution, pooling, matrix products, reductions.
#include "graph/shape_rules.h"

namespace tandem::graph {

std::optional<Known> SameShape(Step& step);      // the first input's shape and elements
std::optional<Known> BroadcastRule(Step& step);  // NumPy broadcasting of all inputs
std::optional<Known> AddRule(Step& step);        // the same, following integers
std::optional<Known> SubRule(Step& step);
std::optional<Known> MulRule(Step& step);
std::optional<Known> DivRule(Step& step);
std::optional<Known> ConvRule(Step& step);
std::optional<Known> PoolRule(Step& step);
std::optional<Known> GlobalPoolRule(Step& step);
std::optional<Known> GemmRule(Step& step);
std::optional<Known> MatMulRule(Step& step);
std::optional<Known> ReduceRule(Step& step);

// Axes from input `input` or from the attribute "axes", made positive; empty if not known or outside the rank.
std::optional<std::vector<int64_t>> AxesOf(const Step& step, size_t input, size_t rank);
// Makes a negative axis positive; empty if outside the rank.
std::optional<size_t> AxisOf(int64_t axis, size_t rank);

}  // namespace tandem::graph
