// An ONNX file: loading, checking, rewriting for serving.
#include <stddef.h>
#include <stdint.h>

#include <string>

#include "graph/graph.h"
#include "graph/rewrite.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto graph = tandem::graph::Graph::Parse(std::string(reinterpret_cast<const char*>(data), size), "fuzz.onnx");
  if (!graph.ok()) return 0;
  graph->TrainableInitializers();
  graph->StatisticInitializers();
  (void)tandem::graph::Summarise(*graph);
  (void)tandem::graph::ForServing(*graph);
  return 0;
}
