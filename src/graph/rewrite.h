#pragma once
// Other forms of a graph that compute the same. The file that users gave is never changed by these: they are for who
// runs it.
#include "absl/status/statusor.h"
#include "graph/graph.h"

namespace tandem::graph {

// Exporters write the batch of their example into the file (PyTorch's default is 1): into its inputs, outputs, and into
// the constant targets of Reshape nodes. This form takes any batch. Equal bytes if the batch is free already.
absl::StatusOr<Graph> WithFreeBatch(const Graph& graph);

// What an engine shall run: any batch; Dropout and BatchNormalization that the file has in training mode
// (training=PRESERVE of a network in train mode) as they are in inference. Equal bytes if there is nothing to change.
absl::StatusOr<Graph> ForServing(const Graph& graph);

}  // namespace tandem::graph
