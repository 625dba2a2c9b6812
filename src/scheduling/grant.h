#pragma once
// From shares to limits. Internal to the policies.
#include "scheduling/policy.h"
#include "scheduling/timetable.h"

namespace tandem::scheduling {

// Whether training's part of the split's time ratio is now. True without a ratio.
bool InTrainingsPart(const Split& split, int64_t now_ms);

// The limits that the timetable's split means now; `training_share` (0..1) of the threads may run.
//
// Without lend a share is a hard cap on both sides: by quota for training, by admission for serving, whose threads no
// quota binds. With lend training has no cap (it runs on what serving leaves), and serving has one only while a
// training job is active and has a guaranteed share: what that guarantee leaves.
Grant MakeGrant(const Snapshot& snapshot, const Timetable& timetable, double training_share);

// The Grant, what the policy remembers of the window, and the Decision if another one is open than in the last round.
void GrantByTimetable(const Snapshot& snapshot, const Timetable& timetable, double training_share, Actions* actions);

}  // namespace tandem::scheduling
