// The states and their arrows: the only place that knows which moves there are.
#include <algorithm>
#include <array>

#include "base/status.h"
#include "base/text.h"
#include "jobs/job_store.h"

namespace tandem::jobs {
namespace {

constexpr int kStates = 10;
constexpr std::array<std::string_view, kStates> kNames = {"queued",   "starting",  "running", "pausing",   "paused",
                                                          "stopping", "succeeded", "failed",  "cancelled", "timed_out"};

constexpr int Bit(State state) { return 1 << static_cast<int>(state); }
constexpr int kUnsuccessful = Bit(State::kFailed) | Bit(State::kCancelled) | Bit(State::kTimedOut);
// What any job with a live trainer may become: its result may arrive while it is asked to pause or to leave.
constexpr int kFromLive = Bit(State::kQueued) | Bit(State::kStopping) | Bit(State::kSucceeded) | kUnsuccessful;

constexpr std::array<int, kStates> kArrows = {
    /* queued    */ Bit(State::kStarting) | kUnsuccessful,
    /* starting  */ Bit(State::kRunning) | Bit(State::kStopping) | Bit(State::kQueued) | kUnsuccessful,
    /* running   */ Bit(State::kPausing) | Bit(State::kPaused) | kFromLive,
    /* pausing   */ Bit(State::kPaused) | Bit(State::kRunning) | kFromLive,
    /* paused    */ Bit(State::kRunning) | kFromLive,
    /* stopping  */ kFromLive & ~Bit(State::kStopping),
    /* succeeded */ 0,
    /* failed    */ 0,
    /* cancelled */ 0,
    /* timed_out */ 0,
};

}  // namespace

std::string_view StateName(State state) { return kNames[static_cast<size_t>(state)]; }

absl::StatusOr<State> ParseState(std::string_view name) {
  auto found = std::ranges::find(kNames, name);
  if (found != kNames.end()) return static_cast<State>(found - kNames.begin());
  std::vector<std::string> known(kNames.begin(), kNames.end());
  return InvalidArgument("'", name, "' is no job state", DidYouMean(name, known));
}

bool IsEnd(State state) { return kArrows[static_cast<size_t>(state)] == 0; }

bool CanMove(State from, State to) { return (kArrows[static_cast<size_t>(from)] & Bit(to)) != 0; }

}  // namespace tandem::jobs
