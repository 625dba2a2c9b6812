#pragma once
// How a child ended, as one word that threads hand to each other without a lock. Internal to this module.
#include <cstdint>
#include <string>

namespace tandem::engine {

struct Ending {
  enum class Kind : int32_t { kUnknown, kSignal, kExit, kTooSlow, kNotStarted };
  Kind kind = Kind::kUnknown;
  int32_t number = 0;  // of the signal or the exit code
  bool operator==(const Ending&) const = default;
};
// "crashed (signal 11, Segmentation fault)", "ended with exit code 3", "was stopped because a run took too long", ...
std::string Describe(const Ending& ending);
// "signal 11 (Segmentation fault)".
std::string SignalText(int signal);
// Waits until a child has ended and reads how, without taking the status away. kUnknown after timeout_ms.
Ending AwaitEnding(int pidfd, int timeout_ms);

}  // namespace tandem::engine
