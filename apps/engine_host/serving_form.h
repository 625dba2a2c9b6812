#pragma once
#include <filesystem>

#include "absl/status/status.h"
#include "engine/engine.h"

// Engine::Prepare with the file as it shall be served: graph::ForServing. What the graph module cannot read, the engine
// gets as it is.
absl::Status PrepareForServing(tandem::engine::Engine& engine, const std::filesystem::path& model,
                               const std::filesystem::path& folder, const tandem::engine::Options& options);
