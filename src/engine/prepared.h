#pragma once
// What the child side of preparing needs: tandem-engine-host is the one user outside this module.
#include <filesystem>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"

namespace tandem::engine {

// Writes prepared.json of a prepared folder; sets its format.
absl::Status WritePrepared(const std::filesystem::path& folder, wire::Prepared prepared);

}  // namespace tandem::engine
