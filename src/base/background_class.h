#pragma once

namespace tandem {

// Puts the calling thread into the class for background work (loading, warming, evaluating, writing checkpoints): nice
// 19 and SCHED_BATCH, for this thread only. Best effort.
void EnterBackgroundClass();

}  // namespace tandem
