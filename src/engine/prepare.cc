// Preparing a model in a child process, and what is left of it: a folder that is whole or absent.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "absl/strings/strip.h"
#include "base/fd.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "engine/ending.h"
#include "engine/engine.h"
#include "engine/executable.h"
#include "engine/prepared.h"
#include "google/protobuf/util/json_util.h"

namespace tandem::engine {
namespace {

constexpr std::string_view kPreparedFile = "prepared.json";
constexpr int kFormat = 1;
constexpr int64_t kMaxPreparedBytes = 1 << 20;

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

absl::Status CheckChild(const ChildResult& child, std::string_view engine, const std::filesystem::path& model,
                        double timeout_s) {
  std::string what = StrCat("preparing '", model.string(), "' for engine '", engine, "'");
  if (child.timed_out) {
    return DeadlineExceeded(what, " took longer than ", HumanSeconds(timeout_s), " and was stopped");
  }
  if (WIFSIGNALED(child.wait_status)) {
    return Internal(what, " crashed the engine: ", SignalText(WTERMSIG(child.wait_status)),
                    "; the server was not touched; the file may be damaged, or the engine has a fault");
  }
  if (WIFEXITED(child.wait_status) && WEXITSTATUS(child.wait_status) == 0) return absl::OkStatus();
  // The child's own message comes last; libraries may have written before it.
  std::string_view text = StdView(absl::StripAsciiWhitespace(AbslView(child.stderr_text)));
  text = text.substr(text.rfind('\n') + 1);
  std::string reason = text.empty() ? StrCat("exit code ", WEXITSTATUS(child.wait_status)) : std::string(text);
  return InvalidArgument(what, " failed: ", reason);
}

absl::Status SyncFiles(const std::filesystem::path& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    UniqueFd fd(open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid() || fsync(fd.get()) != 0) return ErrnoStatus(errno, StrCat("fsync '", entry.path().string(), "'"));
  }
  return SyncFolder(folder);
}

absl::StatusOr<wire::Prepared> ReadPreparedFile(const std::filesystem::path& folder) {
  TANDEM_ASSIGN_OR_RETURN(std::string json, ReadFile(folder / kPreparedFile, kMaxPreparedBytes));
  wire::Prepared prepared;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  auto parsed = google::protobuf::util::JsonStringToMessage(json, &prepared, options);
  if (!parsed.ok()) return InvalidArgument("'", (folder / kPreparedFile).string(), "': ", parsed.ToString());
  return prepared;
}

}  // namespace

absl::Status WritePrepared(const std::filesystem::path& folder, wire::Prepared prepared) {
  prepared.set_format(kFormat);
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  auto printed = google::protobuf::util::MessageToJsonString(prepared, &json, options);
  if (!printed.ok()) return Internal("cannot write prepared.json: ", printed.ToString());
  return WriteFileAtomically(folder / kPreparedFile, json);
}

absl::StatusOr<wire::Prepared> PrepareInChild(const SpawnFunction& spawn, std::string_view engine,
                                              const std::filesystem::path& model, const std::filesystem::path& folder,
                                              const Options& options, double timeout_s) {
  TANDEM_ASSIGN_OR_RETURN(TemporaryFolder temporary, TemporaryFolder::Beside(folder));
  std::vector<std::string> argv = {(ExecutableFolder() / "tandem-engine-host").string(),
                                   "prepare",
                                   "--engine",
                                   std::string(engine),
                                   "--model",
                                   model.string(),
                                   "--out",
                                   temporary.path().string(),
                                   "--precision",
                                   options.precision,
                                   "--device",
                                   options.device,
                                   "--threads",
                                   StrCat(options.threads)};
  TANDEM_ASSIGN_OR_RETURN(ChildResult child, spawn(argv, timeout_s));
  TANDEM_RETURN_IF_ERROR(CheckChild(child, engine, model, timeout_s));
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
