#pragma once
// How far an engine's outputs are from another's. Internal to measuring; serving/comparison.h judges live answers,
// element by element, this one against the scale of a whole output.
#include "engine_host.pb.h"

namespace tandem::engine {

// Adds what one run answered to `found`: the larger differences stay. Outputs are matched by name. Numbers with a
// fraction may differ, and by how much is told; where one is NaN or infinite and the other is not the same, where
// whole numbers, booleans or texts differ, and where names, types or shapes do, `mismatch` says so once.
void AddDifference(const wire::Sample& reference, const wire::Sample& actual, wire::Measurement* found);

}  // namespace tandem::engine
