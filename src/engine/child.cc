#include "engine/child.h"

#include <sys/wait.h>

#include "absl/strings/ascii.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "engine/ending.h"
#include "engine/executable.h"
#include "google/protobuf/util/json_util.h"

namespace tandem::engine {
namespace {

constexpr int64_t kMaxJsonBytes = 1 << 20;

}  // namespace

std::vector<std::string> HostArguments(std::string_view command, std::string_view engine, const Options& options) {
  return {(ExecutableFolder() / "tandem-engine-host").string(),
          std::string(command),
          "--engine",
          std::string(engine),
          "--precision",
          options.precision,
          "--device",
          options.device,
          "--threads",
          StrCat(options.threads)};
}

absl::Status CheckChild(const ChildResult& child, std::string_view what, std::string_view hint, double timeout_s) {
  if (child.timed_out) {
    return DeadlineExceeded(what, " took longer than ", HumanSeconds(timeout_s), " and was stopped");
  }
  if (WIFSIGNALED(child.wait_status)) {
    return Internal(what, " crashed the engine: ", SignalText(WTERMSIG(child.wait_status)), "; ", hint);
  }
  if (WIFEXITED(child.wait_status) && WEXITSTATUS(child.wait_status) == 0) return absl::OkStatus();
  // The child's own message comes last; libraries may have written before it.
  std::string_view text = StdView(absl::StripAsciiWhitespace(AbslView(child.stderr_text)));
  text = text.substr(text.rfind('\n') + 1);
  std::string reason = text.empty() ? StrCat("exit code ", WEXITSTATUS(child.wait_status)) : std::string(text);
  return InvalidArgument(what, " failed: ", reason);
}

absl::Status WriteJson(const std::filesystem::path& file, const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  auto printed = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!printed.ok()) return Internal("cannot write '", file.string(), "': ", printed.ToString());
  return WriteFileAtomically(file, json);
}

absl::Status ReadJson(const std::filesystem::path& file, google::protobuf::Message* message) {
  TANDEM_ASSIGN_OR_RETURN(std::string json, ReadFile(file, kMaxJsonBytes));
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  auto parsed = google::protobuf::util::JsonStringToMessage(json, message, options);
  if (parsed.ok()) return absl::OkStatus();
  return InvalidArgument("'", file.string(), "': ", parsed.ToString());
}

}  // namespace tandem::engine
