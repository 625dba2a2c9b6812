#include <algorithm>

#include "nlohmann/json.hpp"
#include "tandem/commands.h"
#include "tandem/model_check.h"
#include "tandem/programs.h"

namespace tandem::cli {
namespace {

constexpr char kEngineHost[] = "tandem-engine-host";

absl::StatusOr<Exit> RunCheck(Session& session, const std::string& file) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<PlaceCheck> checks, CheckModelFile(file));
  bool ok = std::all_of(checks.begin(), checks.end(), [](const PlaceCheck& check) { return check.ok; });
  if (session.json) {
    session.PrintJsonText(nlohmann::json{{"file", file}, {"ok", ok}, {"checks", ToJson(checks)}}.dump(
        -1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    session.Print(ToText(checks, session.style));
  }
  return ok ? Exit::kOk : Exit::kFailed;
}

// The engine host's description, and what is missing where.
absl::StatusOr<Exit> RunShow(Session& session, const std::string& file) {
  std::vector<std::string> arguments = {"model", "show", file};
  if (session.json) arguments.push_back("--json");
  TANDEM_ASSIGN_OR_RETURN(ProgramResult shown, RunProgram(kEngineHost, arguments));
  if (shown.exit_code != 0) return InvalidArgument(ErrorText(shown));
  TANDEM_ASSIGN_OR_RETURN(std::vector<PlaceCheck> checks, CheckModelFile(file));
  if (session.json) {
    nlohmann::json json = nlohmann::json::parse(shown.out, nullptr, false);
    if (!json.is_object()) return Internal("'model show' of ", kEngineHost, " gave no JSON object");
    json["checks"] = ToJson(checks);
    session.PrintJsonText(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    session.Print(StrCat(shown.out, "\n", ToText(checks, session.style)));
  }
  return Exit::kOk;
}

struct RunOptions {
  std::string file, inputs, out, engine = "reference";
};

absl::StatusOr<Exit> RunRun(Session& session, const RunOptions& options) {
  if (options.inputs.empty()) return Usage("--inputs is missing: a .npz file, or a folder of input_N.pb");
  if (options.out.empty()) return Usage("--out FILE.npz is missing");
  bool reference = options.engine == "reference";
  std::vector<std::string> arguments = {"model", "run", options.file, "--inputs", options.inputs, "--out", options.out};
  if (!reference) arguments.insert(arguments.end(), {"--engine", options.engine});
  TANDEM_ASSIGN_OR_RETURN(ProgramResult result, RunProgram(reference ? "tandem-trainer" : kEngineHost, arguments));
  if (result.exit_code != 0) return InvalidArgument(ErrorText(result));
  if (session.json) {
    session.PrintJsonText(
        nlohmann::json{{"file", options.file}, {"engine", options.engine}, {"out", options.out}}.dump());
  } else {
    session.Print(options.out + "\n");
  }
  return Exit::kOk;
}

}  // namespace

void AddModelFileCommands(Command& root, Session& session) {
  Command& model = root.Add("model", "ONNX files, without a server");
  model.Example("model new --arch resnet8 --input 1x28x28 --classes 10 --out m.onnx").Example("model check m.onnx");
  model.Add("new", "Make a starting file for training; see tandem model new --help")
      .Example("model new --arch mlp --input 1x28x28 --classes 10 --out m.onnx");
  model.Add("join", "Join a file and its external data into one; see tandem model join --help")
      .Example("model join m.onnx --out joined.onnx");

  auto options = std::make_shared<RunOptions>();
  model.Add("show", "Inputs, outputs, parameters, MACs, opset, and what is missing where")
      .Argument("FILE", &options->file, "ONNX file")
      .Example("model show m.onnx")
      .Run([&session, options] { return RunShow(session, options->file); });
  model.Add("check", "Can it be read, trained, served? What is missing where?")
      .Argument("FILE", &options->file, "ONNX file")
      .Example("model check m.onnx")
      .Run([&session, options] { return RunCheck(session, options->file); });
  model.Add("run", "Run a file once on given inputs")
      .Argument("FILE", &options->file, "ONNX file")
      .Option("--inputs", &options->inputs, "x.npz (arrays by input name), or a folder of input_N.pb")
      .Option("--engine", &options->engine, "reference (the trainer's interpreter), openvino, ...")
      .Option("--out", &options->out, "y.npz to write")
      .Example("model run m.onnx --inputs x.npz --engine openvino --out y.npz")
      .Run([&session, options] { return RunRun(session, *options); });
}

}  // namespace tandem::cli
