#pragma once
// One plug-in file, opened and checked. Internal to this module.
#include <filesystem>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"

namespace tandem::engine {

// FailedPrecondition names the file and what was expected: no shared library, no entry function, another ABI version,
// a table with holes, or a name other than `name`.
absl::StatusOr<std::unique_ptr<Engine>> OpenPlugin(const std::filesystem::path& file, std::string_view name);

}  // namespace tandem::engine
