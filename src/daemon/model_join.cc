#include "daemon/model_join.h"

#include <atomic>
#include <nlohmann/json.hpp>

#include "absl/strings/str_replace.h"
#include "base/status.h"
#include "engine/model_file.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

constexpr double kTimeoutSeconds = 300;
constexpr double kPrepareTimeoutSeconds = 600;
constexpr std::string_view kWidestEngine = "onnxruntime";

void ReadSignatures(const nlohmann::json& list, std::vector<TensorSignature>* out) {
  for (const nlohmann::json& one : list) {
    TensorSignature& signature = out->emplace_back();
    signature.name = one.at("name");
    signature.dtype = DTypeFromProtocolName(one.at("dtype").get<std::string>());
    signature.shape = one.at("shape").get<Shape>();
  }
}

void ReadSignatures(const google::protobuf::RepeatedPtrField<wire::TensorInfo>& list,
                    std::vector<TensorSignature>* out) {
  for (const wire::TensorInfo& one : list) {
    out->push_back({one.name(), DTypeFromProtocolName(one.datatype()), Shape(one.shape().begin(), one.shape().end())});
  }
}

absl::Status CopyOrPack(Children* children, const fs::path& file, const fs::path& to) {
  std::error_code error;
  if (!fs::is_directory(file, error)) return CopyFileAtomically(file, to, children->serving_pace());
  // The same folder gives the same bytes.
  return children->RunChecked(
      {"/bin/tar", "-c", "--format=gnu", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner",
       "--mode=u=rwX", "--dereference", "-f", to.string(), "-C", file.string(), "."},
      kTimeoutSeconds);
}

// The engine says whether it can read the model; what it makes of it is made again when the version is loaded.
absl::StatusOr<wire::Prepared> CheckByEngine(Children* children, std::string_view engine, const fs::path& file) {
  const fs::path folder = StrCat(file.string(), ".prepared");
  auto spawn = [children](const std::vector<std::string>& argv, double timeout_s) {
    return children->Run(argv, timeout_s);
  };
  absl::StatusOr<wire::Prepared> prepared =
      engine::PrepareInChild(spawn, engine, file, folder, {}, kPrepareTimeoutSeconds);
  std::error_code error;
  fs::remove_all(folder, error);
  if (prepared.ok()) return prepared;
  // A file that crashes the engine is the file's fault.
  const bool internal = absl::IsInternal(prepared.status());
  return absl::Status(
      internal ? absl::StatusCode::kInvalidArgument : prepared.status().code(),
      absl::StrReplaceAll(AbslView(MessageOf(prepared.status())), {{StrCat("'", file.string(), "'"), "it"}}));
}

absl::Status TakeTensorFlow(Children* children, const fs::path& file, JoinedModel* joined) {
  TANDEM_RETURN_IF_ERROR(CopyOrPack(children, file, joined->file));
  TANDEM_ASSIGN_OR_RETURN(wire::Prepared prepared, CheckByEngine(children, engine::kTensorFlowEngine, joined->file));
  ReadSignatures(prepared.inputs(), &joined->inputs);
  ReadSignatures(prepared.outputs(), &joined->outputs);
  return absl::OkStatus();
}

// A file of ONNX operators that tandem itself does not know is taken as it is if the engine that knows most reads it.
// `why` is what tandem said of it.
absl::Status TakeAsItIs(Children* children, const fs::path& file, const std::string& why, JoinedModel* joined) {
  TANDEM_RETURN_IF_ERROR(CopyOrPack(children, file, joined->file));
  absl::StatusOr<wire::Prepared> prepared = CheckByEngine(children, kWidestEngine, joined->file);
  if (!prepared.ok()) return InvalidArgument(why, "; nor does engine '", kWidestEngine, "' read it");
  ReadSignatures(prepared->inputs(), &joined->inputs);
  ReadSignatures(prepared->outputs(), &joined->outputs);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<JoinedModel> JoinModel(Children* children, const Paths& paths, const fs::path& file) {
  static std::atomic<uint64_t> next{1};
  TANDEM_ASSIGN_OR_RETURN(std::string_view format, engine::FormatOf(file));
  JoinedModel joined{.file = paths.serving_run() / StrCat("import-", next.fetch_add(1), ".", format),
                     .format = std::string(format)};
  if (format != engine::kOnnx) {
    absl::Status taken = TakeTensorFlow(children, file, &joined);
    std::error_code error;
    if (!taken.ok()) fs::remove(joined.file, error);
    TANDEM_RETURN_IF_ERROR(Annotate(taken, StrCat("model '", file.string(), "'")));
    return joined;
  }
  TANDEM_ASSIGN_OR_RETURN(std::string said,
                          children->RunForOutput({BesideSelf("tandem-engine-host").string(), "model", "join",
                                                  file.string(), "--out", joined.file.string(), "--json"},
                                                 kTimeoutSeconds));
  absl::Status read = CatchToStatus("what tandem-engine-host says of a model", [&] {
    nlohmann::json json = nlohmann::json::parse(said);
    if (json.contains("engines_only")) return TakeAsItIs(children, file, json["engines_only"], &joined);
    ReadSignatures(json.at("inputs"), &joined.inputs);
    ReadSignatures(json.at("outputs"), &joined.outputs);
    return absl::OkStatus();
  });
  if (read.ok()) return joined;
  std::error_code error;
  std::filesystem::remove(joined.file, error);
  return read;
}

}  // namespace tandem::daemon
