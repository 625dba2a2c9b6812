// The artifact store on disk:
//   sha256/ab/abcdef...   the bytes, read-only
//   derived/abcdef.../    what was made from them
//   incoming/             on their way from another file system
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "base/fd.h"
#include "base/files.h"
#include "base/paced_writer.h"
#include "base/status.h"
#include "storage/store.h"

namespace tandem::storage {
namespace {

namespace fs = std::filesystem;

bool IsHash(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

fs::path PlaceIn(const fs::path& folder, std::string_view sha256) {
  return folder / "sha256" / sha256.substr(0, 2) / sha256;
}

absl::StatusOr<UniqueFd> OpenRegular(const fs::path& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", path.string(), "'"));
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return ErrnoStatus(errno, StrCat("stat '", path.string(), "'"));
  if (!S_ISREG(status.st_mode)) return InvalidArgument("'", path.string(), "' is not a regular file");
  return fd;
}

absl::Status Unlink(const fs::path& path) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return ErrnoStatus(errno, StrCat("remove '", path.string(), "'"));
}

absl::StatusOr<ArtifactStore::Artifact> HashOpenFile(int fd, const fs::path& path) {
  Sha256 hash;
  ArtifactStore::Artifact artifact;
  std::string buffer(1 << 18, '\0');
  while (true) {
    ssize_t n = read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, StrCat("read '", path.string(), "'"));
    if (n == 0) break;
    hash.Update(std::string_view(buffer.data(), n));
    artifact.bytes += n;
  }
  artifact.sha256 = hash.FinishHex();
  return artifact;
}

class FileArtifactStore : public ArtifactStore {
 public:
  FileArtifactStore(fs::path folder, PacedWriter* pace)
      : folder_(std::move(folder)), pace_(pace == nullptr ? &unpaced_ : pace) {}

  // Removes what a dead process left: unfinished files, and derived folders without their artifact.
  absl::Status CleanUp() {
    TANDEM_RETURN_IF_ERROR(MakeFolders(folder_ / "sha256"));
    TANDEM_RETURN_IF_ERROR(MakeFolders(folder_ / "derived"));
    std::error_code error;
    fs::remove_all(folder_ / "incoming", error);
    TANDEM_RETURN_IF_ERROR(MakeFolders(folder_ / "incoming"));
    for (const auto& shard : fs::directory_iterator(folder_ / "sha256", error)) {
      for (const auto& file : fs::directory_iterator(shard.path(), error)) {
        if (!IsHash(file.path().filename().string())) fs::remove(file.path(), error);
      }
    }
    for (const auto& derived : fs::directory_iterator(folder_ / "derived", error)) {
      if (!PathOf(derived.path().filename().string()).ok()) fs::remove_all(derived.path(), error);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Artifact> PutBytes(std::string_view data) override {
    Artifact artifact{Sha256Hex(data), static_cast<int64_t>(data.size())};
    std::lock_guard lock(mutex_);
    if (PathOf(artifact.sha256).ok()) return artifact;
    fs::path place = PlaceOf(artifact.sha256);
    TANDEM_RETURN_IF_ERROR(MakeShard(place));
    TANDEM_RETURN_IF_ERROR(WriteFileAtomically(place, data));
    TANDEM_RETURN_IF_ERROR(MakeReadOnly(place));
    return artifact;
  }

  absl::StatusOr<fs::path> BringNear(const fs::path& path) override {
    TANDEM_RETURN_IF_ERROR(OpenRegular(path).status());
    const fs::path near = folder_ / "incoming" / StrCat(next_.fetch_add(1), "-", path.filename().string());
    // Tried, not compared: two mounts of one device are two file systems for a rename.
    if (link(path.c_str(), near.c_str()) == 0) {
      TANDEM_RETURN_IF_ERROR(Unlink(near));
      return path;
    }
    if (errno != EXDEV) return path;
    TANDEM_RETURN_IF_ERROR(CopyFileAtomically(path, near, pace_));
    TANDEM_RETURN_IF_ERROR(Unlink(path));
    return near;
  }

  absl::StatusOr<Artifact> AdoptFile(const fs::path& far) override {
    TANDEM_ASSIGN_OR_RETURN(const fs::path path, BringNear(far));
    TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, OpenRegular(path));
    TANDEM_ASSIGN_OR_RETURN(Artifact artifact, HashOpenFile(fd.get(), path));
    std::lock_guard lock(mutex_);
    if (!PathOf(artifact.sha256).ok()) TANDEM_RETURN_IF_ERROR(MoveIn(fd.get(), path, artifact));
    TANDEM_RETURN_IF_ERROR(Unlink(path));
    return artifact;
  }

  absl::StatusOr<fs::path> PathOf(std::string_view sha256) const override {
    if (!IsHash(sha256)) return InvalidArgument("'", sha256, "' is not a SHA-256 of 64 lower-case hex digits");
    fs::path place = PlaceOf(sha256);
    std::error_code error;
    if (!fs::is_regular_file(place, error))
      return NotFound("there is no artifact ", sha256, " in '", folder_.string(), "'");
    return place;
  }

  fs::path DerivedFolder(std::string_view sha256) const override { return folder_ / "derived" / sha256; }

  std::vector<Artifact> List() const override {
    std::vector<Artifact> artifacts;
    std::error_code error;
    for (const auto& shard : fs::directory_iterator(folder_ / "sha256", error)) {
      for (const auto& file : fs::directory_iterator(shard.path(), error)) {
        std::string name = file.path().filename().string();
        if (!IsHash(name)) continue;
        uintmax_t bytes = file.file_size(error);
        if (!error) artifacts.push_back({name, static_cast<int64_t>(bytes)});
      }
    }
    std::ranges::sort(artifacts, {}, &Artifact::sha256);
    return artifacts;
  }

  absl::Status Remove(std::string_view sha256) override {
    std::lock_guard lock(mutex_);
    TANDEM_ASSIGN_OR_RETURN(fs::path place, PathOf(sha256));
    std::error_code error;
    fs::remove_all(DerivedFolder(sha256), error);
    if (!error) fs::remove(place, error);
    if (error) return ErrnoStatus(error.value(), StrCat("remove artifact ", sha256));
    return SyncFolder(place.parent_path());
  }

 private:
  fs::path PlaceOf(std::string_view sha256) const { return PlaceIn(folder_, sha256); }

  absl::Status MakeShard(const fs::path& place) const {
    TANDEM_RETURN_IF_ERROR(MakeFolders(place.parent_path()));
    return SyncFolder(folder_ / "sha256");
  }

  static absl::Status MakeReadOnly(const fs::path& place) {
    if (chmod(place.c_str(), 0444) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, StrCat("make '", place.string(), "' read-only"));
  }

  absl::Status MoveIn(int fd, const fs::path& path, const Artifact& artifact) {
    fs::path place = PlaceOf(artifact.sha256);
    TANDEM_RETURN_IF_ERROR(MakeShard(place));
    if (fsync(fd) != 0) return ErrnoStatus(errno, StrCat("fsync '", path.string(), "'"));
    if (rename(path.c_str(), place.c_str()) != 0)
      return ErrnoStatus(errno, StrCat("move '", path.string(), "' into the artifact store"));
    TANDEM_RETURN_IF_ERROR(MakeReadOnly(place));
    return SyncFolder(place.parent_path());
  }

  const fs::path folder_;
  PacedWriter unpaced_{0};
  PacedWriter* const pace_;
  std::atomic<uint64_t> next_{1};  // in incoming/
  std::mutex mutex_;               // held while an artifact appears or goes
};

}  // namespace

absl::StatusOr<std::unique_ptr<ArtifactStore>> ArtifactStore::Open(const fs::path& folder, PacedWriter* pace) {
  auto store = std::make_unique<FileArtifactStore>(folder, pace);
  TANDEM_RETURN_IF_ERROR(store->CleanUp());
  return store;
}

std::vector<std::string> ArtifactStore::MissingFrom(const fs::path& folder, const std::vector<std::string>& hashes) {
  std::vector<std::string> missing;
  std::error_code error;
  for (const std::string& sha256 : hashes) {
    if (!fs::is_regular_file(PlaceIn(folder, sha256), error)) missing.push_back(sha256);
  }
  return missing;
}

}  // namespace tandem::storage
