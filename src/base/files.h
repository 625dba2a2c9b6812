#pragma once
// Files: read whole, write atomically, lock, hash.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"

namespace tandem {

// Reads a whole file. ResourceExhausted if it is larger than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path, int64_t max_bytes = int64_t{1} << 32);

// A file that appears under its name whole or not at all, and survives power loss once Commit returned: written to a
// temporary name in the same folder, fsync, rename, fsync of the folder. Dropping it without Commit removes the
// temporary file. Thread-compatible.
class AtomicFile {
 public:
  static absl::StatusOr<AtomicFile> Create(const std::filesystem::path& path);
  AtomicFile(AtomicFile&&) noexcept = default;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  absl::Status Write(std::string_view data);
  // What was written so far is on the disk (not under its name yet).
  absl::Status Sync();
  absl::Status Commit();

 private:
  AtomicFile(std::filesystem::path path, std::filesystem::path temporary, UniqueFd fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}

  std::filesystem::path path_, temporary_;
  UniqueFd fd_;
};

// AtomicFile in one call.
absl::Status WriteFileAtomically(const std::filesystem::path& path, std::string_view data);

// Flushes a folder's entries to disk.
absl::Status SyncFolder(const std::filesystem::path& folder);

// Makes a folder and its parents; OK if it exists.
absl::Status MakeFolders(const std::filesystem::path& folder);

// SHA-256 as 64 lower-case hex digits.
std::string Sha256Hex(std::string_view data);
absl::StatusOr<std::string> Sha256HexOfFile(const std::filesystem::path& path);

// SHA-256 in pieces. Thread-compatible.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void Update(std::string_view data);
  // REQUIRES: called once, last.
  std::string FinishHex();

 private:
  void* context_;  // EVP_MD_CTX
};

// An exclusive advisory lock on a file, held until destroyed; FailedPrecondition when another process holds it, with
// what that process wrote into the file (its "pid=... url=...") in the message. The content is replaced by `content`.
class FileLock {
 public:
  static absl::StatusOr<FileLock> Acquire(const std::filesystem::path& path, std::string_view content);
  // Waits for as long as another process holds it. Nothing but the end of this process breaks that off, so it is for a
  // thread that may be left behind.
  static absl::StatusOr<FileLock> AcquireWhenFree(const std::filesystem::path& path, std::string_view content);
  FileLock(FileLock&&) noexcept = default;
  // Replaces what a refused process reads.
  absl::Status SetContent(std::string_view content);

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// Bytes of the regular files below `folder`. What vanishes meanwhile, or cannot be read, does not count.
int64_t BytesBelow(const std::filesystem::path& folder);

}  // namespace tandem
