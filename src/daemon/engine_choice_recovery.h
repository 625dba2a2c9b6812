#pragma once
// What the end of a server in the middle of a load means for the choice of engines.
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "registry/registry.h"

namespace tandem::daemon {

// Settles the loads of Registry::CutShortAtOpen, a sentence for each. Where the server chooses the engine (`choose`)
// and the model leaves it open, the engine that was loading is held back in the version's report, and the former one
// serves the version again. Else the version is quarantined, as one that nothing had served: the engine is a person's
// word, and so is the next try. To be called before anything is loaded; what ends the server meanwhile costs nothing,
// the next one settles it again.
absl::StatusOr<std::vector<std::string>> SettleCutShortLoads(registry::Registry* registry, bool choose);

}  // namespace tandem::daemon
