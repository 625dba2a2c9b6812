#include <iostream>
#include <iterator>

#include "absl/strings/str_format.h"
#include "base/files.h"
#include "nlohmann/json.hpp"
#include "spec/train_spec.h"
#include "tandem/commands.h"
#include "tandem/predict_options.h"
#include "tandem/prediction.h"

namespace tandem::cli {
namespace {

constexpr size_t kTop = 5;

absl::StatusOr<std::string> ReadInput(const std::string& file) {
  if (file == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  return ReadFile(file, int64_t{1} << 30);
}

std::vector<std::string> ClassNames(client::Client& client, const std::string& dataset) {
  if (dataset.empty()) return {};
  absl::StatusOr<wire::Dataset> found = client.datasets().Show(dataset);
  if (!found.ok()) {
    std::fprintf(stderr, "warning: no class names: %s\n", std::string(MessageOf(found.status())).c_str());
    return {};
  }
  return {found->class_names().begin(), found->class_names().end()};
}

std::string NameOf(const ClassScore& score, const std::vector<std::string>& names) {
  return score.number < static_cast<int64_t>(names.size()) ? names[score.number] : "";
}

void PrintClasses(Session& session, const client::Inference::Answer& answer, const std::vector<ClassScore>& classes,
                  const std::vector<std::string>& names) {
  if (session.json) {
    nlohmann::json json = {{"model", answer.model}, {"version", answer.version}, {"classes", nlohmann::json::array()}};
    for (const ClassScore& score : classes) {
      nlohmann::json entry = {{"class", score.number}, {"probability", score.probability}};
      if (std::string name = NameOf(score, names); !name.empty()) entry["name"] = name;
      json["classes"].push_back(std::move(entry));
    }
    return session.PrintJsonText(json.dump());
  }
  Table table({">CLASS", "NAME", ">PROBABILITY"});
  for (const ClassScore& score : classes) {
    table.AddRow(
        {absl::StrFormat("%d", score.number), NameOf(score, names), absl::StrFormat("%.4f", score.probability)});
  }
  session.Print(
      StrCat(session.style.Dim(StrCat("by ", answer.model, "/", answer.version)), "\n", table.Render(session.style)));
}

absl::StatusOr<Exit> PredictImage(Session& session, client::Client& client, const PredictOptions& options,
                                  const std::string& model, const std::string& version) {
  TANDEM_ASSIGN_OR_RETURN(std::string image, ReadInput(options.image));
  TANDEM_ASSIGN_OR_RETURN(auto metadata, client.inference().Describe(model, version));
  if (metadata.inputs.size() != 1) {
    return InvalidArgument("model '", model, "' has ", metadata.inputs.size(), " inputs: use --json-input FILE");
  }
  absl::StatusOr<Tensor> tensor = ImageTensor(image, metadata.inputs[0]);
  TANDEM_RETURN_IF_ERROR(Annotate(tensor.status(), options.image));
  std::vector<Tensor> inputs;
  inputs.push_back(*std::move(tensor));
  TANDEM_ASSIGN_OR_RETURN(auto answer, client.inference().Infer(model, version, inputs));
  if (answer.outputs.empty()) return Internal("model '", model, "' answered without an output");
  TANDEM_ASSIGN_OR_RETURN(std::vector<double> values, FloatValues(answer.outputs[0]));
  PrintClasses(session, answer, TopClasses(Probabilities(values), kTop), ClassNames(client, options.dataset));
  return Exit::kOk;
}

// The server's answer as it came with JSON; else each output with its values.
absl::StatusOr<Exit> PredictJson(Session& session, client::Client& client, const PredictOptions& options,
                                 const std::string& model, const std::string& version) {
  TANDEM_ASSIGN_OR_RETURN(std::string text, ReadInput(options.json_input));
  TANDEM_ASSIGN_OR_RETURN(auto metadata, client.inference().Describe(model, version));
  absl::StatusOr<std::string> request = InferRequestJson(text, metadata);
  TANDEM_RETURN_IF_ERROR(Annotate(request.status(), options.json_input));
  TANDEM_ASSIGN_OR_RETURN(std::string answer, client.inference().InferJson(model, version, *std::move(request)));
  nlohmann::json json = nlohmann::json::parse(answer, nullptr, false);
  if (!json.is_object() || !json.contains("outputs")) return Internal("the server's answer has no 'outputs'");
  if (session.json) {
    session.PrintJsonText(json.dump());
    return Exit::kOk;
  }
  for (const nlohmann::json& output : json["outputs"]) {
    session.Print(StrCat(output.value("name", ""), " ", output.value("datatype", ""), " ",
                         output.value("shape", nlohmann::json()).dump(), "\n",
                         output.value("data", nlohmann::json()).dump(), "\n"));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunPredict(Session& session, PredictOptions options) {
  TANDEM_RETURN_IF_ERROR(SettlePredictOptions(&options));
  session.json = session.json || options.json;
  absl::StatusOr<spec::ModelRef> ref = spec::ParseModelRef(options.model);
  if (!ref.ok()) return Usage(MessageOf(ref.status()));
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  std::string version = ref->version > 0 ? StrCat(ref->version) : ref->alias;
  if (!options.image.empty()) return PredictImage(session, *client, options, ref->name, version);
  return PredictJson(session, *client, options, ref->name, version);
}

}  // namespace

absl::Status SettlePredictOptions(PredictOptions* options) {
  if (!options->json_value.empty() && options->model.empty()) {
    options->model = std::exchange(options->json_value, "");  // predict --json MODEL --image FILE
  }
  if (!options->json_value.empty()) {
    if (!options->json_input.empty()) return Usage("the input is given twice: by --json and by --json-input");
    options->json_input = options->json_value;
  }
  if (options->model.empty()) return Usage("MODEL is missing; see tandem predict --help");
  if (options->image.empty() == options->json_input.empty()) {
    return Usage("give one of --image FILE and --json-input FILE; see tandem predict --help");
  }
  return absl::OkStatus();
}

void AddPredictCommand(Command& root, Session& session) {
  auto options = std::make_shared<PredictOptions>();
  root.Add("predict", "Ask a served model")
      .OptionalArgument("MODEL", &options->model, "NAME, NAME@ALIAS or NAME/VERSION")
      .Option("--image", &options->image, "PNG or JPEG, resized to the model's input; prints the top classes")
      .Option("--json-input", &options->json_input,
              "Request as JSON ({\"inputs\": [...]}), or a list of numbers for a model with one input; - reads stdin")
      .FlagOrOption("--json", &options->json, &options->json_value,
                    "Print JSON; with a FILE behind it also reads it, as --json-input does")
      .Option("--dataset", &options->dataset, "Data set to take class names from")
      .Example("predict fashion --image shirt.png --dataset fashion")
      .Example("predict fashion@challenger --json request.json")
      .Example("predict fashion/2 --image shirt.png --json")
      .Run([&session, options] { return RunPredict(session, *options); });
}

}  // namespace tandem::cli
