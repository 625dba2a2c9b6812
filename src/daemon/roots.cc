#include "daemon/roots.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/status.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

using storage::Row;
using Transaction = storage::Store::Transaction;

// In each root but the data folder: whose it is.
constexpr std::string_view kMark = "tandem.root";
// What tandem makes in a root.
constexpr std::string_view kKept[] = {"artifacts", "checkpoints", "datasets", "run"};

struct Side {
  std::string_view name, folder, what;
  fs::path root;
  std::string Setting() const { return StrCat(name, ".folder is '", root.string(), "'"); }
};

std::vector<Side> Sides(const Paths& paths) {
  return {{"serving", "artifacts", "models' files", paths.serving},
          {"training", "checkpoints", "checkpoints and data sets", paths.training}};
}

bool Same(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return a == b || fs::equivalent(a, b, error);
}

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

bool IsInside(const fs::path& inner, const fs::path& outer) {
  std::error_code error;
  const fs::path way = fs::weakly_canonical(inner, error).lexically_relative(fs::weakly_canonical(outer, error));
  return !way.empty() && *way.begin() != "..";
}

absl::Status CheckPlace(const Side& side, const Paths& paths) {
  std::error_code error;
  if (!fs::is_directory(side.root, error)) {
    return FailedPrecondition(side.Setting(), ", which is no folder; make it (mkdir -p '", side.root.string(),
                              "'), mount its disk, or correct the setting");
  }
  for (const fs::path& root : {paths.root, paths.serving, paths.training}) {
    for (std::string_view kept : kKept) {
      if (!IsInside(side.root, root / kept)) continue;
      return FailedPrecondition(side.Setting(), ", inside of '", (root / kept).string(),
                                "', which tandem keeps for itself; give another folder");
    }
  }
  if (!Exists(side.root / "tandem.db")) return absl::OkStatus();
  return FailedPrecondition(side.Setting(), ", which is the data folder of another server; give another folder");
}

struct Remembered {
  std::string id;                              // of the store
  std::map<std::string, std::string> folders;  // by side; "" = in the data folder
};

absl::StatusOr<Remembered> ReadRemembered(storage::Store* store) {
  Remembered remembered;
  TANDEM_RETURN_IF_ERROR(store->Read([&](Transaction& transaction) {
    return transaction.Query("SELECT name, value FROM roots", {}, [&](const Row& row) {
      if (row.Text(0) == "id") {
        remembered.id = row.Text(1);
      } else {
        remembered.folders[row.Text(0)] = row.Text(1);
      }
    });
  }));
  return remembered;
}

std::string MarkText(const Remembered& remembered, const Paths& paths) {
  return StrCat("store=", remembered.id, "\ndata=", paths.root.string(), "\n");
}

absl::StatusOr<FileLock> LockRoot(const Side& side, std::string_view holder) {
  TANDEM_RETURN_IF_ERROR(
      Annotate(MakeFolders(Paths::RunBelow(side.root)), StrCat(side.Setting(), ", and cannot be written")));
  absl::StatusOr<FileLock> lock = FileLock::Acquire(Paths::LockBelow(side.root), holder);
  if (absl::IsFailedPrecondition(lock.status()))
    return Annotate(lock.status(), StrCat(side.Setting(), ", which another server uses"));
  if (!lock.ok()) return Annotate(lock.status(), StrCat(side.Setting(), ", and cannot be written"));
  return lock;
}

// REQUIRES: the root is not the data folder.
absl::Status CheckMark(const Side& side, const Remembered& remembered, std::string_view holder) {
  const absl::StatusOr<std::string> mark = ReadFile(side.root / kMark, 1 << 14);
  if (mark.ok()) {
    if (mark->starts_with(StrCat("store=", remembered.id, "\n"))) return absl::OkStatus();
    TANDEM_RETURN_IF_ERROR(LockRoot(side, holder).status());  // one that runs is named with its address
    const size_t data = mark->find("data=");
    return FailedPrecondition(side.Setting(), ", which holds the files of another server (data folder '",
                              data == mark->npos ? "" : mark->substr(data + 5, mark->find('\n', data) - data - 5),
                              "'); give each server a folder of its own, or remove '", (side.root / kMark).string(),
                              "' if that server is gone for good");
  }
  if (!absl::IsNotFound(mark.status())) return Annotate(mark.status(), side.Setting());
  auto former = remembered.folders.find(std::string(side.name));
  const bool known = former != remembered.folders.end() && former->second == side.root;
  if (!known || Exists(side.root / side.folder)) return absl::OkStatus();
  return FailedPrecondition(side.Setting(), ", where this server's ", side.what, " lie, but there is no '", side.folder,
                            "' in it: is its disk mounted? Mount it, or make the folder '",
                            (side.root / side.folder).string(), "' to go on without them");
}

// What the records name and `now` has not, with what they name altogether.
struct Lacking {
  std::vector<std::string> missing;
  size_t of = 0;
};

Lacking LackingOfServing(const Paths& now, const RootParts& parts) {
  Lacking lacking;
  const std::vector<std::string> used = parts.registry->UsedArtifacts();
  lacking.of = used.size();
  for (const std::string& sha256 : storage::ArtifactStore::MissingFrom(now.artifacts(), used))
    lacking.missing.push_back(StrCat("artifact ", sha256));
  return lacking;
}

Lacking LackingOfTraining(const Paths& now, const Paths& before, const RootParts& parts) {
  Lacking lacking;
  auto look = [&](const fs::path& place, std::string name) {
    ++lacking.of;
    if (!Exists(place)) lacking.missing.push_back(std::move(name));
  };
  for (const wire::Dataset& dataset : parts.registry->ListDatasets()) {
    if (dataset.copied()) look(now.datasets() / dataset.name(), StrCat("data set '", dataset.name(), "'"));
  }
  for (const jobs::JobRecord& job : parts.jobs->List()) {
    const bool begun = !jobs::IsEnd(job.state) && job.attempt > 0;
    if (begun || Exists(before.JobFolder(job.id))) look(now.JobFolder(job.id), StrCat("job ", job.id));
  }
  return lacking;
}

// The root is another one than before: what lay in that one must be in this one.
absl::Status CheckMove(const Side& side, const Paths& paths, const std::string& former, const RootParts& parts,
                       std::vector<std::string>* notices) {
  const fs::path before = former.empty() ? paths.root : fs::path(former);
  Paths old = paths;
  old.training = before;
  const Lacking lacking =
      side.name == "serving" ? LackingOfServing(paths, parts) : LackingOfTraining(paths, old, parts);
  if (lacking.missing.empty()) {
    if (lacking.of > 0)
      notices->push_back(
          StrCat(side.what, " lie in '", side.root.string(), "' now, before in '", before.string(), "'"));
    return absl::OkStatus();
  }
  const std::string back = former.empty() ? StrCat("take ", side.name, ".folder out of the settings")
                                          : StrCat("set ", side.name, ".folder back to it");
  return FailedPrecondition(side.Setting(), Same(side.root, paths.root) ? " (the data folder)" : "", ", but ",
                            lacking.missing.size(), " of ", lacking.of,
                            " that the records name are not below it (the first: ", lacking.missing.front(), "); the ",
                            side.what, " lay in '", before.string(), "' before. Move what lies there (",
                            side.name == "serving" ? "artifacts" : "checkpoints, datasets", "), or ", back);
}

absl::Status LeadDatasets(const Paths& paths, registry::Registry* registry) {
  for (const wire::Dataset& dataset : registry->ListDatasets()) {
    const fs::path place = paths.datasets() / dataset.name();
    if (!dataset.copied() || dataset.path() == place || !Exists(place)) continue;
    TANDEM_RETURN_IF_ERROR(registry->MoveDataset(dataset.name(), place.string()));
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<storage::Migration>& RootMigrations() {
  static const auto* const kMigrations = new std::vector<storage::Migration>{
      {610,
       "CREATE TABLE roots (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
       "INSERT INTO roots VALUES ('id', lower(hex(randomblob(16))));"},
  };
  return *kMigrations;
}

absl::StatusOr<std::vector<FileLock>> TakeRoots(const Paths& paths, const RootParts& parts, std::string_view holder,
                                                std::vector<std::string>* notices) {
  TANDEM_ASSIGN_OR_RETURN(const Remembered remembered, ReadRemembered(parts.store));
  std::vector<FileLock> locks;
  std::vector<fs::path> taken = {paths.root};
  std::map<std::string, std::string> folders;
  for (const Side& side : Sides(paths)) {
    const std::string name(side.name);
    const bool separate = !Same(side.root, paths.root);
    folders[name] = separate ? side.root.string() : "";
    if (separate) {
      TANDEM_RETURN_IF_ERROR(CheckPlace(side, paths));
      TANDEM_RETURN_IF_ERROR(CheckMark(side, remembered, holder));
    }
    const bool mine =
        std::any_of(taken.begin(), taken.end(), [&](const fs::path& one) { return Same(one, side.root); });
    if (!mine) {
      TANDEM_ASSIGN_OR_RETURN(FileLock lock, LockRoot(side, holder));
      locks.push_back(std::move(lock));
      taken.push_back(side.root);
    }
    auto former = remembered.folders.find(name);
    const std::string before = former == remembered.folders.end() ? "" : former->second;
    if (before != folders[name]) TANDEM_RETURN_IF_ERROR(CheckMove(side, paths, before, parts, notices));
  }
  for (const auto& [name, folder] : folders) {
    if (!folder.empty() && !Exists(fs::path(folder) / kMark))
      TANDEM_RETURN_IF_ERROR(WriteFileAtomically(fs::path(folder) / kMark, MarkText(remembered, paths)));
  }
  TANDEM_RETURN_IF_ERROR(parts.store->Write([&](Transaction& transaction) -> absl::Status {
    for (const auto& [name, folder] : folders)
      TANDEM_RETURN_IF_ERROR(transaction.Execute("INSERT OR REPLACE INTO roots VALUES (?, ?)", {name, folder}));
    return absl::OkStatus();
  }));
  TANDEM_RETURN_IF_ERROR(LeadDatasets(paths, parts.registry));
  return locks;
}

}  // namespace tandem::daemon
