#pragma once
// The registry's tables, one call per question; all run inside a transaction of the caller's. Used by the registry
// alone.
#include <string>
#include <string_view>
#include <vector>

#include "registry/registry.h"
#include "registry/rollback.h"

namespace tandem::registry {

using Transaction = storage::Store::Transaction;

// Models with their aliases and versions, by name.
absl::StatusOr<std::vector<Model>> LoadModels(Transaction& transaction);
// NotFound names the nearest known model.
absl::StatusOr<Model> LoadModel(Transaction& transaction, std::string_view name);
// The version of a loaded model; NotFound says which there are.
absl::StatusOr<Version> FindVersion(const Model& model, int32_t version);

// Makes the model if needed, gives the version its number, which is never used again, and keeps it.
absl::StatusOr<Version> InsertVersion(Transaction& transaction, Version version, int64_t now_ms);
// Keeps it under the number that it brings. AlreadyExists if that is taken.
absl::StatusOr<Version> InsertNumberedVersion(Transaction& transaction, Version version, int64_t now_ms);
absl::Status UpdateVersion(Transaction& transaction, const Version& version);

// Moves the alias, without asking whether it may, and keeps the move for ever.
absl::Status MoveAlias(Transaction& transaction, std::string_view model, const wire::AliasMove& move, bool rollback);
absl::StatusOr<std::vector<wire::AliasMove>> LoadHistory(Transaction& transaction, std::string_view model);
absl::StatusOr<std::vector<Move>> LoadMoves(Transaction& transaction, std::string_view model, std::string_view alias);

absl::Status SaveConfig(Transaction& transaction, std::string_view model, std::string_view text);
absl::Status SaveSplit(Transaction& transaction, std::string_view model, const Split& split);
// Kept for ever.
absl::Status InsertEvent(Transaction& transaction, std::string_view model, const wire::ModelEvent& event);
absl::StatusOr<std::vector<wire::ModelEvent>> LoadEvents(Transaction& transaction, std::string_view model);

absl::StatusOr<std::vector<wire::Dataset>> LoadDatasets(Transaction& transaction);
absl::Status InsertDataset(Transaction& transaction, const wire::Dataset& dataset);

}  // namespace tandem::registry
