#pragma once
// The child side of engine::PrepareInChild.
#include <string>

#include "absl/status/status.h"
#include "engine/engine.h"

struct PrepareArguments {
  std::string engine, model, folder;
  tandem::engine::Options options;
};

// Compiles the model, then loads it and runs it once on zeros: what would crash the server crashes here. Writes
// prepared.json last.
absl::Status PrepareModel(const PrepareArguments& arguments);
