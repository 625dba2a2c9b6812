#pragma once
// The child side of engine::LoadRemote.
#include <string>

#include "absl/status/status.h"
#include "engine/engine.h"

struct ServeArguments {
  std::string engine, folder;
  tandem::engine::Options options;
  int fd = -1;  // the control socket
};

// Loads the model and answers runs until the server closes the control socket (or dies), which ends this process. An
// error was told to the server already.
absl::Status ServeModel(const ServeArguments& arguments);
