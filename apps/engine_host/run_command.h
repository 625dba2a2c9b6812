#pragma once
// "model run": one run of a file on given inputs, without a server.
#include <string>

#include "absl/status/status.h"
#include "engine/engine.h"

struct RunArguments {
  std::string model, inputs, out;
  std::string engine = "openvino";
  tandem::engine::Options options;
};

absl::Status RunModel(const RunArguments& arguments);
