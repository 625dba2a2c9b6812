#pragma once
// What the shares say at a time: the open window's split, or the outer one.
#include <cstdint>
#include <optional>

#include "scheduling/sharing.h"

namespace tandem::scheduling {

// Whether a split lets training run at all, its time ratio aside.
bool GivesTraining(const Split& split);

// A view of a Sharing, which must outlive it. Immutable.
class Timetable {
 public:
  // follows_windows = false: the outer split, always.
  Timetable(const Sharing* sharing, bool follows_windows) : sharing_(*sharing), follows_windows_(follows_windows) {}

  // The first open window; null if none is.
  const Window* OpenWindow(int64_t at_ms) const;
  const Split& SplitAt(int64_t at_ms) const;
  // The next instant after `after_ms` at which a window opens or closes.
  std::optional<int64_t> NextEdge(int64_t after_ms) const;
  // The next instant after `after_ms` at which training has a share, if that is within the next 1,000 edges.
  std::optional<int64_t> NextTraining(int64_t after_ms) const;
  // The window of that name; null if there is none. Jobs may name one whether or not the shares follow windows.
  const Window* Find(std::string_view name) const;
  // The zone that times are said in: of the first window, or the machine's.
  absl::TimeZone zone() const;

  const Sharing& sharing() const { return sharing_; }

 private:
  const Sharing& sharing_;
  const bool follows_windows_;
};

}  // namespace tandem::scheduling
