#pragma once
// The rules of canaries and shadows, on a loaded model inside a transaction. Used by the registry alone.
#include "registry/tables.h"

namespace tandem::registry {

// Who changes the split, and when.
struct Change {
  std::string_view who;
  int64_t now_ms = 0;
};

// As Registry::StartSplit and EndSplit say.
absl::Status StartPart(Transaction& transaction, const Model& model, SplitPart part, int32_t version, double percent,
                       const Change& change, std::string_view why);
absl::Status EndPart(Transaction& transaction, const Model& model, SplitPart part, int32_t version,
                     const Change& change, std::string_view text);
// Both, where there are any.
absl::Status EndParts(Transaction& transaction, const Model& model, const Change& change, std::string_view text);

}  // namespace tandem::registry
