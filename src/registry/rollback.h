#pragma once
// Where a rollback goes: a pure function of an alias's history.
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace tandem::registry {

struct Move {
  int32_t to = 0;  // 0 = removed
  bool rollback = false;
};

// The version to go back to from where the alias is now. The history is read like the undo list of an editor: a move
// adds to it, a rollback takes back up to its target, so that the next rollback goes further back, and a move after a
// rollback does not bring back what was taken. Versions for which `exists` is false are passed over.
// `moves` are oldest first. Nothing when there is nothing before.
std::optional<int32_t> RollBackTarget(const std::vector<Move>& moves, const std::function<bool(int32_t)>& exists);

}  // namespace tandem::registry
