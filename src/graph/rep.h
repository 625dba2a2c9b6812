#pragma once
// What a Graph holds.
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "graph/graph.h"
#include "graph/wire.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {

struct Graph::Rep {
  std::string source;  // for messages
  std::string bytes;
  onnx::ModelProto model;
  int64_t opset = 0;
  std::vector<TensorSignature> inputs, outputs;
  std::vector<Initializer> initializers;
  std::vector<TensorPlace> places;                       // one per initialiser
  std::deque<std::string> decoded;                       // data of initialisers that do not lie in `bytes` as they are
  std::unordered_map<std::string_view, size_t> by_name;  // views into `initializers`
};

}  // namespace tandem::graph
