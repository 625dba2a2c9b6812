#include "engine/model_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/fd.h"
#include "base/files.h"
#include "base/status.h"

namespace tandem::engine {
namespace fs = std::filesystem;
namespace {

// Places and widths in a header are those of the ustar format (POSIX.1-2001, pax).
constexpr size_t kBlock = 512;
using Header = std::array<char, kBlock>;
constexpr size_t kMagic = 257;
// Of one call of the kernel: kernels that are not preemptible would keep a CPU from the threads that answer requests.
constexpr size_t kPieceBytes = 64 << 10;
constexpr int kMostEntries = 10'000;
constexpr size_t kMostNameBytes = 1000;
constexpr int kDeepest = 32;
constexpr int64_t kMostExtraBytes = 64 << 10;  // of a long name

std::string_view Field(const Header& header, size_t offset, size_t width) {
  std::string_view field(header.data() + offset, width);
  return field.substr(0, field.find('\0'));
}

absl::StatusOr<int64_t> Octal(std::string_view field) {
  field = field.substr(std::min(field.find_first_not_of(' '), field.size()));
  int64_t number = 0;
  for (char c : field) {
    if (c == ' ') break;
    if (c < '0' || c > '7') return InvalidArgument("the archive is damaged: a header has no octal number");
    number = number * 8 + (c - '0');
  }
  return number;
}

// GNU tar writes what octal digits cannot hold as a binary number, with the highest bit set.
absl::StatusOr<int64_t> SizeOf(const Header& header) {
  constexpr size_t kAt = 124, kWidth = 12;
  if ((header[kAt] & 0x80) == 0) return Octal(Field(header, kAt, kWidth));
  int64_t size = 0;
  for (size_t i = 4; i < kWidth; ++i) size = (size << 8) | static_cast<unsigned char>(header[kAt + i]);
  if (size < 0) return InvalidArgument("the archive is damaged: an entry has a negative size");
  return size;
}

absl::Status CheckSum(const Header& header) {
  TANDEM_ASSIGN_OR_RETURN(int64_t wanted, Octal(Field(header, 148, 8)));
  int64_t sum = 0;
  for (size_t i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(header[i]);
  if (sum == wanted) return absl::OkStatus();
  return InvalidArgument("the archive is damaged: a header's checksum does not fit");
}

bool IsZero(const Header& header) {
  return std::all_of(header.begin(), header.end(), [](char c) { return c == '\0'; });
}

// "LENGTH path=value\n" of a pax record; others mean nothing here, but a size would.
absl::Status ReadPax(std::string_view records, std::string* name) {
  while (!records.empty()) {
    const size_t space = records.find(' ');
    int64_t length = 0;
    if (space == records.npos || !absl::SimpleAtoi(AbslView(records.substr(0, space)), &length) ||
        length <= static_cast<int64_t>(space) + 1 || length > static_cast<int64_t>(records.size())) {
      return InvalidArgument("the archive is damaged: a pax record has no length");
    }
    std::string_view record = records.substr(space + 1, static_cast<size_t>(length) - space - 2);
    if (record.starts_with("path=")) *name = record.substr(strlen("path="));
    if (record.starts_with("size=")) return InvalidArgument("a file in the archive has 8 GB or more");
    if (record.starts_with("GNU.sparse"))
      return InvalidArgument("a file in the archive is sparse; pack it without --sparse");
    records.remove_prefix(static_cast<size_t>(length));
  }
  return absl::OkStatus();
}

// The entry's place below the folder; empty for the folder itself.
absl::StatusOr<fs::path> CheckName(std::string_view name) {
  auto refuse = [&](std::string_view why) {
    return InvalidArgument("entry '", name.substr(0, 200), "' of the archive ", why);
  };
  if (name.size() > kMostNameBytes) return refuse("has a longer name than 1000 bytes");
  if (name.starts_with('/')) return refuse("has an absolute name");
  if (name.find('\0') != name.npos) return refuse("has a zero byte in its name");
  fs::path clean;
  int depth = 0;
  for (const fs::path& part : fs::path(name)) {
    if (part == "..") return refuse("leads out of the folder");
    if (part.empty() || part == ".") continue;
    if (++depth > kDeepest) return refuse("lies more than 32 folders deep");
    clean /= part;
  }
  return clean;
}

std::string_view KindOf(char type) {
  switch (type) {
    case '1':
    case '2':
      return "a link";
    case '3':
    case '4':
      return "a device";
    case '6':
      return "a pipe";
    default:
      return "neither a file nor a folder";
  }
}

class Unpacker {
 public:
  Unpacker(UniqueFd archive, int64_t size, fs::path folder)
      : archive_(std::move(archive)), left_(size), folder_(std::move(folder)) {}

  absl::Status Run() {
    Header header;
    for (int entries = 0; left_ >= static_cast<int64_t>(kBlock); ++entries) {
      if (entries == kMostEntries) return InvalidArgument("the archive has more than ", kMostEntries, " entries");
      TANDEM_RETURN_IF_ERROR(Read(header.data(), kBlock));
      if (IsZero(header)) return absl::OkStatus();
      TANDEM_RETURN_IF_ERROR(CheckSum(header));
      TANDEM_ASSIGN_OR_RETURN(int64_t size, SizeOf(header));
      if (size > left_) return InvalidArgument("the archive ends in the middle of a file");
      TANDEM_RETURN_IF_ERROR(Entry(header, size));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Read(void* data, size_t size) {
    left_ -= static_cast<int64_t>(size);
    return ReadExactly(archive_.get(), data, size);
  }

  // Data of an entry ends on a whole block.
  absl::Status SkipPadding(int64_t size) {
    const int64_t padding = std::min(
        (static_cast<int64_t>(kBlock) - size % static_cast<int64_t>(kBlock)) % static_cast<int64_t>(kBlock), left_);
    char skipped[kBlock];
    return Read(skipped, static_cast<size_t>(padding));
  }

  absl::Status Entry(const Header& header, int64_t size) {
    const char type = header[156];
    if (type == 'x' || type == 'L' || type == 'g') return ReadExtra(type, size);
    std::string name = std::move(long_name_);
    long_name_.clear();
    if (name.empty()) {
      std::string_view prefix;
      if (Field(header, kMagic, 6) == "ustar") prefix = Field(header, 345, 155);
      name = StrCat(prefix, prefix.empty() ? "" : "/", Field(header, 0, 100));
    }
    TANDEM_ASSIGN_OR_RETURN(fs::path place, CheckName(name));
    std::error_code error;
    if (type == '5') {
      fs::create_directories(folder_ / place, error);
      return error ? InvalidArgument("entry '", name, "' of the archive: ", error.message()) : SkipData(size);
    }
    if (type != '0' && type != '\0' && type != '7') {
      return InvalidArgument("entry '", name, "' of the archive is ", KindOf(type), "; pack files and folders only");
    }
    if (place.empty()) return InvalidArgument("a file in the archive has no name");
    fs::create_directories((folder_ / place).parent_path(), error);
    if (error) return InvalidArgument("entry '", name, "' of the archive: ", error.message());
    return WriteFile(folder_ / place, name, size);
  }

  absl::Status SkipData(int64_t size) {
    if (size > kMostExtraBytes) return InvalidArgument("the archive is damaged: a folder has data");
    std::string data(static_cast<size_t>(size), '\0');
    TANDEM_RETURN_IF_ERROR(Read(data.data(), data.size()));
    return SkipPadding(size);
  }

  absl::Status ReadExtra(char type, int64_t size) {
    if (size > kMostExtraBytes) return InvalidArgument("the archive is damaged: a name has ", size, " bytes");
    std::string data(static_cast<size_t>(size), '\0');
    TANDEM_RETURN_IF_ERROR(Read(data.data(), data.size()));
    if (type == 'x') TANDEM_RETURN_IF_ERROR(ReadPax(data, &long_name_));
    if (type == 'L') long_name_ = data.substr(0, data.find('\0'));
    return SkipPadding(size);
  }

  absl::Status WriteFile(const fs::path& path, const std::string& name, int64_t size) {
    // Nothing here is a link, as links are refused; and no file is written twice.
    UniqueFd out(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!out.valid() && errno == EEXIST) return InvalidArgument("entry '", name, "' stands twice in the archive");
    if (!out.valid()) return ErrnoStatus(errno, StrCat("write entry '", name, "' of the archive"));
    std::string piece(std::min<size_t>(kPieceBytes, static_cast<size_t>(size)), '\0');
    for (int64_t rest = size; rest > 0;) {
      const size_t count = std::min<size_t>(piece.size(), static_cast<size_t>(rest));
      TANDEM_RETURN_IF_ERROR(Read(piece.data(), count));
      TANDEM_RETURN_IF_ERROR(WriteAll(out.get(), std::string_view(piece).substr(0, count)));
      rest -= static_cast<int64_t>(count);
    }
    return SkipPadding(size);
  }

  UniqueFd archive_;
  int64_t left_;
  const fs::path folder_;
  std::string long_name_;  // of the entry that follows
};

absl::StatusOr<UniqueFd> OpenForReading(const fs::path& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", path.string(), "'"));
  return fd;
}

constexpr std::string_view kGraphFile = "saved_model.pb";

absl::StatusOr<fs::path> FindSavedModel(const fs::path& folder) {
  std::error_code error;
  if (fs::is_regular_file(folder / kGraphFile, error)) return folder;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (fs::is_regular_file(entry.path() / kGraphFile, error)) found.push_back(entry.path());
  }
  if (found.size() == 1) return found[0];
  return InvalidArgument("the archive ", found.empty() ? "has no " : "has more than one ", kGraphFile,
                         "; pack what lies in the SavedModel's folder: tar -C FOLDER -cf model.tar .");
}

}  // namespace

absl::StatusOr<std::string_view> FormatOf(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return kSavedModel;
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path));
  Header begin = {};
  const ssize_t got = pread(fd.get(), begin.data(), begin.size(), 0);
  if (got < 0) return ErrnoStatus(errno, StrCat("read '", path.string(), "'"));
  if (std::string_view(begin.data() + kMagic, 5) == "ustar") return kSavedModel;
  if (std::string_view(begin.data() + 4, 4) == "TFL3") return kTflite;
  // A GraphDef begins with its first node (field 1, bytes), and that with its name (the same).
  if (begin[0] == 0x0a) {
    size_t at = 1;
    while (at < 10 && (begin[at] & 0x80) != 0) ++at;  // the node's length
    if (begin[at + 1] == 0x0a) return kFrozenGraph;
  }
  return kOnnx;
}

absl::StatusOr<fs::path> UnpackSavedModel(const fs::path& archive, const fs::path& folder) {
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(archive));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat '", archive.string(), "'"));
  TANDEM_RETURN_IF_ERROR(Unpacker(std::move(fd), info.st_size, folder).Run());
  return FindSavedModel(folder);
}

}  // namespace tandem::engine
