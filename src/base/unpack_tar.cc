#include "base/unpack_tar.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/fd.h"
#include "base/status.h"

namespace tandem {
namespace fs = std::filesystem;
namespace {

// Places and widths in a header are those of the ustar format (POSIX.1-2001, pax).
constexpr size_t kBlock = 512;
using Header = std::array<char, kBlock>;
constexpr size_t kMagic = 257;
constexpr size_t kPieceBytes = 256 << 10;
constexpr size_t kMostNameBytes = 1000;
constexpr int kDeepest = 32;
constexpr int64_t kMostExtraBytes = 64 << 10;  // of a long name

absl::Status NoTar(std::string_view why) {
  return InvalidArgument("the archive is damaged, or no plain tar (unpack one that is compressed first): ", why);
}

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
  const absl::StatusOr<int64_t> wanted = Octal(Field(header, 148, 8));
  int64_t sum = 0;
  for (size_t i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(header[i]);
  if (wanted.ok() && sum == *wanted) return absl::OkStatus();
  return NoTar("a header's checksum does not fit");
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
  Unpacker(UniqueFd archive, int64_t size, fs::path folder, PacedWriter* pace)
      : archive_(std::move(archive)), left_(size), folder_(std::move(folder)), pace_(pace) {}

  absl::Status Run(int64_t most_entries) {
    if (left_ < static_cast<int64_t>(kBlock)) return NoTar("it has less than 512 bytes");
    Header header;
    for (int64_t entries = 0; left_ >= static_cast<int64_t>(kBlock); ++entries) {
      TANDEM_RETURN_IF_ERROR(Read(header.data(), kBlock));
      if (IsZero(header)) return absl::OkStatus();
      if (entries == most_entries) return InvalidArgument("the archive has more than ", most_entries, " entries");
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
    if (type == '5') {
      TANDEM_RETURN_IF_ERROR(MakeFolder(folder_ / place, name));
      return SkipData(size);
    }
    if (type != '0' && type != '\0' && type != '7') {
      return InvalidArgument("entry '", name, "' of the archive is ", KindOf(type), "; pack files and folders only");
    }
    if (place.empty()) return InvalidArgument("a file in the archive has no name");
    TANDEM_RETURN_IF_ERROR(MakeFolder((folder_ / place).parent_path(), name));
    return WriteFile(folder_ / place, name, size);
  }

  static absl::Status MakeFolder(const fs::path& folder, const std::string& name) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (!error) return absl::OkStatus();
    const std::string entry = StrCat("entry '", name, "' of the archive");
    // The archive's fault: it has a file there, or a name that no disk takes.
    if (error == std::errc::not_a_directory || error == std::errc::file_exists ||
        error == std::errc::filename_too_long) {
      return InvalidArgument(entry, ": ", error.message());
    }
    return ErrnoStatus(error.value(), entry);
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
    if (!out.valid() && errno == ENAMETOOLONG)
      return InvalidArgument("entry '", name, "' of the archive: ", strerror(errno));
    if (!out.valid()) return ErrnoStatus(errno, StrCat("write entry '", name, "' of the archive"));
    std::string piece(std::min<size_t>(kPieceBytes, static_cast<size_t>(size)), '\0');
    for (int64_t rest = size; rest > 0;) {
      const size_t count = std::min<size_t>(piece.size(), static_cast<size_t>(rest));
      TANDEM_RETURN_IF_ERROR(Read(piece.data(), count));
      TANDEM_RETURN_IF_ERROR(Annotate(pace_->Write(std::string_view(piece).substr(0, count), out.get()),
                                      StrCat("entry '", name, "' of the archive")));
      rest -= static_cast<int64_t>(count);
    }
    return SkipPadding(size);
  }

  UniqueFd archive_;
  int64_t left_;
  const fs::path folder_;
  PacedWriter* const pace_;
  std::string long_name_;  // of the entry that follows
};

}  // namespace

absl::Status UnpackTar(const fs::path& archive, const fs::path& folder, int64_t most_entries, PacedWriter* pace) {
  UniqueFd fd(open(archive.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", archive.string(), "'"));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat '", archive.string(), "'"));
  return Unpacker(std::move(fd), info.st_size, folder, pace).Run(most_entries);
}

}  // namespace tandem
