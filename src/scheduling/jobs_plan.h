#pragma once
// Which jobs start, stop, pause and go on: the same for all policies. Internal to the policies.
#include "scheduling/policy.h"
#include "scheduling/timetable.h"

namespace tandem::scheduling {

// Fills start, waiting, pause, resume, release and expire. REQUIRES: actions->grant is set.
//
// Order: priority + whole hours waited, then waiting time, then id. A job starts when its threads, memory, seat and
// window allow; smaller ones may pass one that does not fit. The first job runs at weight 1000, further ones fill its
// gaps at weight 50, all with as many threads as they asked for.
//
// Pre-emption: the first in order that waits for room releases the jobs that are cheapest to stop among those whose
// priority is at least 10 lower, if that makes room. One at a time, so that the room goes to who asked for it.
void PlanJobs(const Snapshot& snapshot, const Timetable& timetable, Actions* actions);

}  // namespace tandem::scheduling
