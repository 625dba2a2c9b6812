#include "engine/model_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "base/fd.h"
#include "base/status.h"
#include "base/unpack_tar.h"

namespace tandem::engine {
namespace fs = std::filesystem;
namespace {

constexpr size_t kTarMagic = 257;  // where it stands in the first block
constexpr int64_t kMostEntries = 10'000;
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
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", path.string(), "'"));
  std::array<char, 512> begin = {};
  const ssize_t got = pread(fd.get(), begin.data(), begin.size(), 0);
  if (got < 0) return ErrnoStatus(errno, StrCat("read '", path.string(), "'"));
  if (std::string_view(begin.data() + kTarMagic, 5) == "ustar") return kSavedModel;
  if (std::string_view(begin.data() + 4, 4) == "TFL3") return kTflite;
  // A GraphDef begins with its first node (field 1, bytes), and that with its name (the same).
  if (begin[0] == 0x0a) {
    size_t at = 1;
    while (at < 10 && (begin[at] & 0x80) != 0) ++at;  // the node's length
    if (begin[at + 1] == 0x0a) return kFrozenGraph;
  }
  return kOnnx;
}

absl::StatusOr<fs::path> UnpackSavedModel(const fs::path& archive, const fs::path& folder, PacedWriter* pace) {
  TANDEM_RETURN_IF_ERROR(UnpackTar(archive, folder, kMostEntries, pace));
  return FindSavedModel(folder);
}

}  // namespace tandem::engine
