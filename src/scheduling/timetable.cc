#include "scheduling/timetable.h"

#include <algorithm>

namespace tandem::scheduling {

bool GivesTraining(const Split& split) { return split.lend || split.training.cpu > 0; }

const Window* Timetable::OpenWindow(int64_t at_ms) const {
  if (!follows_windows_) return nullptr;
  for (const Window& window : sharing_.windows) {
    if (window.when.IsOpen(at_ms)) return &window;
  }
  return nullptr;
}

const Split& Timetable::SplitAt(int64_t at_ms) const {
  const Window* window = OpenWindow(at_ms);
  return window == nullptr ? sharing_.split : window->split;
}

std::optional<int64_t> Timetable::NextEdge(int64_t after_ms) const {
  std::optional<int64_t> next;
  if (!follows_windows_) return next;
  for (const Window& window : sharing_.windows) {
    const std::optional<int64_t> edge = window.when.NextEdge(after_ms);
    if (edge.has_value()) next = std::min(next.value_or(*edge), *edge);
  }
  return next;
}

std::optional<int64_t> Timetable::NextTraining(int64_t after_ms) const {
  std::optional<int64_t> at = NextEdge(after_ms);
  for (int edges = 0; at.has_value() && edges < 1000; ++edges, at = NextEdge(*at)) {
    if (GivesTraining(SplitAt(*at))) return at;
  }
  return std::nullopt;
}

const Window* Timetable::Find(std::string_view name) const {
  for (const Window& window : sharing_.windows) {
    if (window.name == name) return &window;
  }
  return nullptr;
}

absl::TimeZone Timetable::zone() const {
  return sharing_.windows.empty() ? absl::LocalTimeZone() : sharing_.windows.front().when.zone();
}

}  // namespace tandem::scheduling
