#include "daemon/repository_folder.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "base/fd.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

constexpr int kDeepest = 8;       // folders below a version
constexpr size_t kMost = 10'000;  // files of one model
constexpr int64_t kNanos = 1'000'000'000;

// Of a SavedModel, which may be the version's folder itself.
constexpr std::string_view kSavedModelGraph = "saved_model.pb";

// The formats: what a version's folder holds under which name. One that is not ONNX also needs its place in JoinModel
// (model_join.cc), and its backend in repository_config.cc.
constexpr std::string_view kModelNames[] = {"model.onnx", "model.savedmodel", "model.tflite", "model.graphdef",
                                            kSavedModelGraph};

// In their order, so that the same content gives the same stamp.
absl::StatusOr<std::vector<std::string>> NamesIn(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
    if (names.size() > kMost) {
      return InvalidArgument("'", folder.string(), "' has more than ", kMost, " entries; is this a model?");
    }
  }
  if (error) return ErrnoStatus(error.value(), StrCat("read folder '", folder.string(), "'"));
  std::ranges::sort(names);
  return names;
}

class Reader {
 public:
  explicit Reader(fs::path repository) : repository_(std::move(repository)) {}

  // Adds the entry, and what is below it, to the stamp.
  absl::Status Add(const fs::path& path, int depth, std::string* stamp);
  // Of one entry, links followed.
  absl::StatusOr<struct stat> Look(const fs::path& path) const;

  int64_t changed_ms = 0;

 private:
  const fs::path repository_;  // canonical
  size_t count_ = 0;
};

absl::StatusOr<struct stat> Reader::Look(const fs::path& path) const {
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0) return ErrnoStatus(errno, StrCat("look at '", path.string(), "'"));
  if (!S_ISLNK(info.st_mode)) return info;
  std::error_code error;
  const fs::path target = fs::canonical(path, error);
  if (error) {
    return InvalidArgument("'", path.string(), "' is a link that leads nowhere (", error.message(), ")");
  }
  auto [end, unused] = std::mismatch(repository_.begin(), repository_.end(), target.begin(), target.end());
  if (end != repository_.end()) {
    return InvalidArgument("'", path.string(), "' is a link out of the repository, to '", target.string(),
                           "'; copy the file into it");
  }
  if (stat(target.c_str(), &info) != 0) return ErrnoStatus(errno, StrCat("look at '", path.string(), "'"));
  return info;
}

absl::Status Reader::Add(const fs::path& path, int depth, std::string* stamp) {
  if (++count_ > kMost) return InvalidArgument("'", path.string(), "': the model has more than ", kMost, " files");
  if (depth > kDeepest) return InvalidArgument("'", path.string(), "' lies more than ", kDeepest, " folders deep");
  TANDEM_ASSIGN_OR_RETURN(struct stat info, Look(path));
  const int64_t modified = info.st_mtim.tv_sec * kNanos + info.st_mtim.tv_nsec;
  const int64_t changed = info.st_ctim.tv_sec * kNanos + info.st_ctim.tv_nsec;
  changed_ms = std::max({changed_ms, changed / 1'000'000, modified / 1'000'000});
  const bool is_folder = S_ISDIR(info.st_mode);
  if (!is_folder && !S_ISREG(info.st_mode)) {
    return InvalidArgument("'", path.string(), "' is neither a file nor a folder");
  }
  StrAppend(stamp, path.filename().string(), "/", is_folder ? 0 : info.st_size, "/", modified, "/", changed, "/",
            info.st_ino, "\n");
  if (!is_folder) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> names, NamesIn(path));
  for (const std::string& name : names) TANDEM_RETURN_IF_ERROR(Add(path / name, depth + 1, stamp));
  StrAppend(stamp, "..\n");
  return absl::OkStatus();
}

bool IsVersionName(std::string_view name) {
  return !name.empty() && name[0] != '0' && name.find_first_not_of("0123456789") == name.npos;
}

// Names a file in a folder, and nothing else.
absl::Status CheckFileName(std::string_view what, const std::string& name) {
  if (!name.empty() && name != "." && name != ".." && name.find('/') == name.npos) return absl::OkStatus();
  return InvalidArgument(what, " is '", name, "', must be the name of a file, without a folder");
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ListModelFolders(const fs::path& repository) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> names, NamesIn(repository));
  std::erase_if(names, [&](const std::string& name) {
    // A link may lead nowhere for a while, which is no reason to forget a model: ReadModelFolder says what is wrong.
    std::error_code error;
    const fs::file_type type = fs::symlink_status(repository / name, error).type();
    return name.starts_with('.') || (type != fs::file_type::directory && type != fs::file_type::symlink && !error);
  });
  return names;
}

absl::StatusOr<ModelFolder> ReadModelFolder(const fs::path& repository, const std::string& name) {
  TANDEM_RETURN_IF_ERROR(CheckName("model name", name));
  std::error_code error;
  const fs::path root = fs::canonical(repository, error);
  if (error) return ErrnoStatus(error.value(), StrCat("read folder '", repository.string(), "'"));
  ModelFolder out{.name = name, .path = repository / name};
  Reader reader(root);
  TANDEM_ASSIGN_OR_RETURN(struct stat info, reader.Look(out.path));
  if (!S_ISDIR(info.st_mode)) return NotFound("'", out.path.string(), "' is no folder");
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> names, NamesIn(out.path));
  for (const std::string& entry : names) {
    const fs::path path = out.path / entry;
    const bool is_folder = fs::is_directory(path, error);
    if (!IsVersionName(entry) || !is_folder) {
      // Other folders mean nothing here, so nobody needs to read them.
      if (!is_folder) TANDEM_RETURN_IF_ERROR(reader.Add(path, 0, &out.stamp));
      continue;
    }
    int32_t number = 0;
    if (!absl::SimpleAtoi(entry, &number)) {
      return InvalidArgument("'", path.string(), "': numbers of versions go up to ", INT32_MAX, "; rename it");
    }
    VersionFolder& version = out.versions[number];
    version.path = path;
    std::string lines;
    TANDEM_RETURN_IF_ERROR(reader.Add(path, 0, &lines));
    version.stamp = Sha256Hex(lines);
    StrAppend(&out.stamp, number, " ", version.stamp, "\n");
  }
  out.stamp = Sha256Hex(out.stamp);
  out.changed_ms = std::max(reader.changed_ms, info.st_ctim.tv_sec * 1000 + info.st_ctim.tv_nsec / 1'000'000);
  return out;
}

absl::StatusOr<fs::path> FindModelFile(const VersionFolder& version, const std::string& wanted) {
  std::error_code error;
  std::vector<std::string> names(std::begin(kModelNames), std::end(kModelNames));
  if (!wanted.empty()) {
    TANDEM_RETURN_IF_ERROR(CheckFileName("default_model_filename", wanted));
    names = {wanted};
  }
  for (const std::string& name : names) {
    const fs::path path = version.path / name;
    if (!fs::exists(path, error)) continue;
    if (name == kSavedModelGraph) return version.path;
    // A model with data files may stand in a folder of the model's name.
    return fs::is_directory(path, error) && fs::exists(path / name, error) ? path / name : path;
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> found, NamesIn(version.path));
  std::string list;
  for (size_t i = 0; i < std::min<size_t>(found.size(), 5); ++i) StrAppend(&list, i == 0 ? "" : ", ", found[i]);
  return InvalidArgument("'", version.path.string(), "' has no ", absl::StrJoin(names, " or "), "; it ",
                         list.empty() ? "is empty" : StrCat("holds ", list, found.size() > 5 ? " ..." : ""));
}

absl::StatusOr<fs::path> FileBeside(const ModelFolder& folder, const std::string& name) {
  TANDEM_RETURN_IF_ERROR(CheckFileName("label_filename", name));
  return folder.path / name;
}

}  // namespace tandem::daemon
