#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "base/status.h"

namespace tandem {
namespace fs = std::filesystem;

namespace {

absl::StatusOr<UniqueFd> Open(const fs::path& path, int flags, mode_t mode = 0644) {
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", path.string(), "'"));
  return fd;
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const fs::path& path, int64_t max_bytes) {
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_RDONLY));
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, StrCat("stat '", path.string(), "'"));
  if (S_ISDIR(st.st_mode)) return InvalidArgument("'", path.string(), "' is a folder, not a file");
  std::string data;
  // Files of /proc and pipes tell no size: read until the end.
  data.reserve(st.st_size > 0 ? st.st_size : 4096);
  char buffer[1 << 16];
  while (true) {
    ssize_t n = read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, StrCat("read '", path.string(), "'"));
    if (n == 0) return data;
    data.append(buffer, n);
    if (static_cast<int64_t>(data.size()) > max_bytes) {
      return ResourceExhausted("'", path.string(), "' is larger than ", max_bytes, " bytes");
    }
  }
}

absl::StatusOr<AtomicFile> AtomicFile::Create(const fs::path& path) {
  static std::atomic<uint64_t> counter{0};
  fs::path temporary = path;
  temporary += StrCat(".tmp-", getpid(), "-", counter.fetch_add(1));
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("write '", path.string(), "'"));
  return AtomicFile(path, temporary, std::move(fd));
}

AtomicFile::~AtomicFile() {
  if (fd_.valid()) unlink(temporary_.c_str());
}

absl::Status AtomicFile::Write(std::string_view data) {
  return Annotate(WriteAll(fd_.get(), data), StrCat("'", path_.string(), "'"));
}

absl::Status AtomicFile::Sync() {
  if (fdatasync(fd_.get()) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, StrCat("fdatasync '", path_.string(), "'"));
}

absl::Status AtomicFile::Commit() {
  if (fsync(fd_.get()) != 0) return ErrnoStatus(errno, StrCat("fsync '", path_.string(), "'"));
  if (rename(temporary_.c_str(), path_.c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("rename to '", path_.string(), "'"));
  }
  fd_.Reset();
  return SyncFolder(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

absl::Status WriteFileAtomically(const fs::path& path, std::string_view data) {
  TANDEM_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  TANDEM_RETURN_IF_ERROR(file.Write(data));
  return file.Commit();
}

absl::Status SyncFolder(const fs::path& folder) {
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, Open(folder, O_RDONLY | O_DIRECTORY));
  if (fsync(fd.get()) != 0) return ErrnoStatus(errno, StrCat("fsync '", folder.string(), "'"));
  return absl::OkStatus();
}

absl::Status MakeFolders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return ErrnoStatus(error.value(), StrCat("make folder '", folder.string(), "'"));
  return absl::OkStatus();
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_), EVP_sha256(), nullptr);
}
Sha256::~Sha256() { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_)); }

void Sha256::Update(std::string_view data) {
  EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_), data.data(), data.size());
}

std::string Sha256::FinishHex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_), digest, &size);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(size_t{2} * size);
  for (unsigned int i = 0; i < size; ++i) {
    hex.push_back(kHex[digest[i] >> 4]);
    hex.push_back(kHex[digest[i] & 15]);
  }
  return hex;
}

std::string Sha256Hex(std::string_view data) {
  Sha256 hash;
  hash.Update(data);
  return hash.FinishHex();
}

absl::StatusOr<std::string> Sha256HexOfFile(const fs::path& path) {
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_RDONLY));
  Sha256 hash;
  std::string buffer(1 << 18, '\0');
  while (true) {
    ssize_t n = read(fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, StrCat("read '", path.string(), "'"));
    if (n == 0) return hash.FinishHex();
    hash.Update(std::string_view(buffer.data(), n));
  }
}

absl::StatusOr<FileLock> FileLock::Acquire(const fs::path& path, std::string_view content) {
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_RDWR | O_CREAT));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, StrCat("lock '", path.string(), "'"));
    char holder[512] = {};
    if (pread(fd.get(), holder, sizeof holder - 1, 0) < 0) holder[0] = '\0';
    return FailedPrecondition("'", path.string(), "' is held by another process: ", holder);
  }
  FileLock lock(std::move(fd));
  TANDEM_RETURN_IF_ERROR(lock.SetContent(content));
  return lock;
}

absl::StatusOr<FileLock> FileLock::AcquireWhenFree(const fs::path& path, std::string_view content) {
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_RDWR | O_CREAT));
  while (flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return ErrnoStatus(errno, StrCat("lock '", path.string(), "'"));
  }
  FileLock lock(std::move(fd));
  TANDEM_RETURN_IF_ERROR(lock.SetContent(content));
  return lock;
}

absl::Status FileLock::SetContent(std::string_view content) {
  if (ftruncate(fd_.get(), 0) != 0 || pwrite(fd_.get(), content.data(), content.size(), 0) < 0) {
    return ErrnoStatus(errno, "write the lock file");
  }
  return absl::OkStatus();
}

int64_t BytesBelow(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  int64_t bytes = 0;
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(folder, error); !error && it != fs::recursive_directory_iterator();
       it.increment(error)) {
    std::error_code file_error;
    if (!it->is_regular_file(file_error)) continue;
    uintmax_t size = it->file_size(file_error);
    if (!file_error) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace tandem
