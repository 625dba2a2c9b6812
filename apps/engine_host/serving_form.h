#pragma once
#include <filesystem>

#include "absl/status/status.h"
#include "engine/engine.h"

// Engine::Prepare with the file as it shall be served: graph::ForServing. What the graph module cannot read, the engine
// gets as it is; a SavedModel in an archive (engine/model_file.h) is unpacked into `folder` meanwhile. InvalidArgument
// for a model of TensorFlow and another engine than the one that reads them.
absl::Status PrepareForServing(tandem::engine::Engine& engine, const std::filesystem::path& model,
                               const std::filesystem::path& folder, const tandem::engine::Options& options);
