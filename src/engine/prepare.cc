// Preparing a model in a child process, and what is left of it: a folder that is whole or absent.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>

#include "base/fd.h"
#include "base/files.h"
#include "base/status.h"
#include "engine/child.h"
#include "engine/engine.h"
#include "engine/prepared.h"

namespace tandem::engine {
namespace {

constexpr std::string_view kPreparedFile = "prepared.json";
constexpr int kFormat = 1;

// A folder beside `folder` that removes itself unless renamed.
class TemporaryFolder {
 public:
  static absl::StatusOr<TemporaryFolder> Beside(const std::filesystem::path& folder) {
    static std::atomic<int> next{0};
    std::string name = StrCat(".", folder.filename().string(), ".", getpid(), ".", next++);
    std::filesystem::path path = folder.parent_path() / name;
    TANDEM_RETURN_IF_ERROR(MakeFolders(folder.parent_path()));
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (!std::filesystem::create_directory(path, error)) {
      return Internal("cannot make the folder '", path.string(), "': ", error.message());
    }
    return TemporaryFolder(std::move(path));
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }

  const std::filesystem::path& path() const { return path_; }

  // Replaces `folder`, which nobody may be using.
  absl::Status RenameTo(const std::filesystem::path& folder) {
    std::error_code error;
    std::filesystem::remove_all(folder, error);
    std::filesystem::rename(path_, folder, error);
    if (error) return Internal("cannot rename '", path_.string(), "' to '", folder.string(), "': ", error.message());
    path_.clear();
    return SyncFolder(folder.parent_path());
  }

 private:
  explicit TemporaryFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

absl::Status SyncFiles(const std::filesystem::path& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    UniqueFd fd(open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid() || fsync(fd.get()) != 0) return ErrnoStatus(errno, StrCat("fsync '", entry.path().string(), "'"));
  }
  return SyncFolder(folder);
}

absl::StatusOr<wire::Prepared> ReadPreparedFile(const std::filesystem::path& folder) {
  wire::Prepared prepared;
  TANDEM_RETURN_IF_ERROR(ReadJson(folder / kPreparedFile, &prepared));
  return prepared;
}

}  // namespace

absl::Status WritePrepared(const std::filesystem::path& folder, wire::Prepared prepared) {
  prepared.set_format(kFormat);
  return WriteJson(folder / kPreparedFile, prepared);
}

absl::StatusOr<wire::Prepared> PrepareInChild(const SpawnFunction& spawn, std::string_view engine,
                                              const std::filesystem::path& model, const std::filesystem::path& folder,
                                              const Options& options, double timeout_s) {
  TANDEM_ASSIGN_OR_RETURN(TemporaryFolder temporary, TemporaryFolder::Beside(folder));
  std::vector<std::string> argv = HostArguments("prepare", engine, options);
  argv.insert(argv.end(), {"--model", model.string(), "--out", temporary.path().string()});
  TANDEM_ASSIGN_OR_RETURN(ChildResult child, spawn(argv, timeout_s));
  TANDEM_RETURN_IF_ERROR(CheckChild(child, StrCat("preparing '", model.string(), "' for engine '", engine, "'"),
                                    "the server was not touched; the file may be damaged, or the engine has a fault",
                                    timeout_s));
  absl::StatusOr<wire::Prepared> prepared = ReadPreparedFile(temporary.path());
  if (!prepared.ok()) return Annotate(prepared.status(), "tandem-engine-host left no readable prepared.json");
  TANDEM_RETURN_IF_ERROR(SyncFiles(temporary.path()));
  TANDEM_RETURN_IF_ERROR(temporary.RenameTo(folder));
  return prepared;
}

absl::StatusOr<wire::Prepared> ReadPrepared(const std::filesystem::path& folder, std::string_view engine,
                                            const Options& options) {
  absl::StatusOr<wire::Prepared> prepared = ReadPreparedFile(folder);
  if (!prepared.ok()) return NotFound("'", folder.string(), "' is not prepared: ", MessageOf(prepared.status()));
  if (prepared->device().empty()) prepared->set_device("CPU");
  if (prepared->format() != kFormat || prepared->engine() != engine || prepared->precision() != options.precision ||
      prepared->device() != options.device) {
    return NotFound("'", folder.string(), "' was prepared by ", prepared->engine(), " ", prepared->engine_version(),
                    " in ", prepared->precision(), " for ", prepared->device(), ", needed is ", engine, " in ",
                    options.precision, " for ", options.device);
  }
  return prepared;
}

absl::StatusOr<wire::Prepared> ReadPrepared(const std::filesystem::path& folder, const Engine& engine,
                                            const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(wire::Prepared prepared, ReadPrepared(folder, engine.name(), options));
  if (prepared.engine_version() == engine.version()) return prepared;
  return NotFound("'", folder.string(), "' was prepared by ", prepared.engine(), " ", prepared.engine_version(),
                  ", needed is ", engine.name(), " ", engine.version());
}

}  // namespace tandem::engine
