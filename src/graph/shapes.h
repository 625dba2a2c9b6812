#pragma once
// Shapes of the values inside a graph, and what its layers cost, for one batch size.
#include <cstdint>

#include "absl/status/statusor.h"
#include "graph/graph.h"

namespace tandem::graph {

// Multiply-accumulates of all convolutions and matrix products for a batch of one; the first dimension of each input is
// the batch. -1 where a shape cannot be followed.
int64_t CountMacs(const Graph& graph);

}  // namespace tandem::graph
