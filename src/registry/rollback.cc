#include "registry/rollback.h"

namespace tandem::registry {

std::optional<int32_t> RollBackTarget(const std::vector<Move>& moves, const std::function<bool(int32_t)>& exists) {
  std::vector<int32_t> places;
  for (const Move& move : moves) {
    if (move.rollback) {
      if (!places.empty()) places.pop_back();
      while (!places.empty() && places.back() != move.to) places.pop_back();
      if (!places.empty()) continue;
    }
    places.push_back(move.to);
  }
  if (places.empty()) return std::nullopt;
  int32_t now = places.back();
  for (auto place = places.rbegin() + 1; place != places.rend(); ++place) {
    if (*place != 0 && *place != now && exists(*place)) return *place;
  }
  return std::nullopt;
}

}  // namespace tandem::registry
