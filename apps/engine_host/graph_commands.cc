#include "graph_commands.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status.h"
#include "base/tensor.h"
#include "base/text.h"
#include "graph/graph.h"
#include "onnx-ml.pb.h"
#include "own_writes.h"

namespace tandem {
namespace {

using nlohmann::json;

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;

struct Options {
  graph::Architecture architecture;
  std::string input, hidden;  // as written
  std::string file, out;
  bool as_json = false;
};

void Print(const json& value) { std::cout << value.dump(-1, ' ', false, json::error_handler_t::replace) << "\n"; }

// "1x28x28" or "256,128". `what` begins the message.
absl::StatusOr<std::vector<int64_t>> ParseNumbers(std::string_view what, const std::string& text, char separator) {
  std::vector<int64_t> numbers;
  if (text.empty()) return numbers;
  for (absl::string_view part : absl::StrSplit(AbslView(text), separator)) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(part, &number) || number < 1) {
      return InvalidArgument(what, " is '", text, "', must be numbers of 1 or more with '", std::string(1, separator),
                             "' between");
    }
    numbers.push_back(number);
  }
  return numbers;
}

// "[N,1,28,28]": symbolic dimensions by name, unknown ones as "?".
std::string ShapeText(const onnx::ValueInfoProto& value) {
  std::string text;
  for (const auto& dim : value.type().tensor_type().shape().dim()) {
    StrAppend(&text, text.empty() ? "" : ",");
    if (dim.has_dim_value()) {
      StrAppend(&text, dim.dim_value());
    } else {
      StrAppend(&text, dim.dim_param().empty() ? "?" : dim.dim_param());
    }
  }
  return StrCat("[", text, "]");
}

std::string ShapeText(const graph::Graph& model, const TensorSignature& signature) {
  for (const auto& value : model.model().graph().input()) {
    if (value.name() == signature.name) return ShapeText(value);
  }
  for (const auto& value : model.model().graph().output()) {
    if (value.name() == signature.name) return ShapeText(value);
  }
  return ToString(signature.shape);
}

// 1234567 -> "1,234,567".
std::string Grouped(int64_t number) {
  std::string text = StrCat(number);
  for (int at = static_cast<int>(text.size()) - 3; at > (number < 0 ? 1 : 0); at -= 3) text.insert(at, ",");
  return text;
}

json Describe(const std::vector<TensorSignature>& signatures) {
  json all = json::array();
  for (const TensorSignature& signature : signatures) {
    all.push_back({{"name", signature.name}, {"dtype", ProtocolName(signature.dtype)}, {"shape", signature.shape}});
  }
  return all;
}

json ToJson(const std::string& file, const graph::Graph& model, const graph::Summary& summary) {
  json operators = json::object();
  for (const auto& [op, count] : summary.operators) operators[op] = count;
  return {{"file", file},
          {"bytes", model.bytes().size()},
          {"ir_version", model.model().ir_version()},
          {"opset", model.opset()},
          {"producer", model.model().producer_name()},
          {"inputs", Describe(model.inputs())},
          {"outputs", Describe(model.outputs())},
          {"parameters", summary.parameters},
          {"trainable_parameters", summary.trainable_parameters},
          {"macs", summary.macs < 0 ? json() : json(summary.macs)},
          {"operators", operators}};
}

void PrintSignatures(const graph::Graph& model, const char* label, const std::vector<TensorSignature>& signatures) {
  for (const TensorSignature& signature : signatures) {
    std::printf("%-12s %s  %s %s\n", label, signature.name.c_str(), std::string(ProtocolName(signature.dtype)).c_str(),
                ShapeText(model, signature).c_str());
    label = "";
  }
}

void PrintText(const std::string& file, const graph::Graph& model, const graph::Summary& summary) {
  std::printf("%-12s %s\n", "file", file.c_str());
  std::printf("%-12s %s\n", "size", HumanBytes(static_cast<int64_t>(model.bytes().size())).c_str());
  std::printf("%-12s IR version %s, opset %s\n", "format", StrCat(model.model().ir_version()).c_str(),
              StrCat(model.opset()).c_str());
  PrintSignatures(model, "inputs", model.inputs());
  PrintSignatures(model, "outputs", model.outputs());
  std::printf("%-12s %s, trainable %s\n", "parameters", Grouped(summary.parameters).c_str(),
              Grouped(summary.trainable_parameters).c_str());
  std::printf("%-12s %s\n", "MACs",
              summary.macs < 0 ? "unknown (shapes cannot be followed)" : (Grouped(summary.macs) + " a sample").c_str());
  const char* label = "operators";
  for (const auto& [op, count] : summary.operators) {
    std::printf("%-12s %-28s %6d\n", label, op.c_str(), count);
    label = "";
  }
}

absl::Status New(Options& options) {
  TANDEM_ASSIGN_OR_RETURN(options.architecture.input, ParseNumbers("--input", options.input, 'x'));
  if (!options.hidden.empty()) {
    TANDEM_ASSIGN_OR_RETURN(options.architecture.hidden, ParseNumbers("--hidden", options.hidden, ','));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string bytes, graph::MakeModel(options.architecture));
  TANDEM_RETURN_IF_ERROR(WriteFileAtomically(options.out, bytes));
  std::printf("%s: %s\n", options.out.c_str(), HumanBytes(static_cast<int64_t>(bytes.size())).c_str());
  return absl::OkStatus();
}

absl::Status Show(const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(const graph::Graph model, graph::Graph::Load(options.file));
  TANDEM_ASSIGN_OR_RETURN(const graph::Summary summary, graph::Summarise(model));
  if (options.as_json) {
    Print(ToJson(options.file, model, summary));
  } else {
    PrintText(options.file, model, summary);
  }
  return absl::OkStatus();
}

// Whether the file uses operators of other domains than ai.onnx ("ai.onnx.ml"), and is complete without other files:
// nothing for training, but an engine may serve it as it is.
bool IsForEnginesOnly(const std::string& file) {
  onnx::ModelProto model;
  std::ifstream stream(file, std::ios::binary);
  if (!model.ParseFromIstream(&stream)) return false;
  const auto is_outside = [](const onnx::TensorProto& tensor) {
    return tensor.data_location() == onnx::TensorProto::EXTERNAL || tensor.external_data_size() > 0;
  };
  const onnx::GraphProto& graph = model.graph();
  bool foreign = false, outside = std::ranges::any_of(graph.initializer(), is_outside) ||
                                  graph.sparse_initializer_size() > 0 || model.functions_size() > 0;
  for (const onnx::NodeProto& node : graph.node()) {
    foreign |= !node.domain().empty() && node.domain() != "ai.onnx";
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      outside |= is_outside(attribute.t()) || std::ranges::any_of(attribute.tensors(), is_outside) ||
                 attribute.has_g() || attribute.graphs_size() > 0 || attribute.has_sparse_tensor() ||
                 attribute.sparse_tensors_size() > 0;
    }
  }
  return foreign && !outside;
}

// With --json the answer for a file that only an engine could take is why the graph's reader does not; nothing is
// written.
absl::Status Join(const Options& options) {
  const absl::StatusOr<graph::Graph> model = graph::Graph::Load(options.file);
  if (options.as_json && absl::IsUnimplemented(model.status()) && IsForEnginesOnly(options.file)) {
    Print({{"engines_only", MessageOf(model.status())}});
    return absl::OkStatus();
  }
  TANDEM_RETURN_IF_ERROR(model.status());
  TANDEM_RETURN_IF_ERROR(WriteFileAtomically(options.out, model->bytes(), OwnWrites()));
  if (options.as_json) Print({{"inputs", Describe(model->inputs())}, {"outputs", Describe(model->outputs())}});
  return absl::OkStatus();
}

// The verdict is the result here: with --json it goes to stdout also when it is bad.
absl::Status CheckGraph(const Options& options) {
  const absl::StatusOr<graph::Graph> model = graph::Graph::Load(options.file);
  if (options.as_json) {
    json verdict = {{"file", options.file}, {"ok", model.ok()}};
    if (!model.ok()) verdict["error"] = MessageOf(model.status());
    Print(verdict);
  } else if (model.ok()) {
    std::printf("%s: ok\n", options.file.c_str());
  }
  return model.status();
}

int Report(const absl::Status& status, int code = kFailed) {
  std::fflush(stdout);
  if (status.ok()) return kDone;
  std::cerr << "error: " << MessageOf(status) << "\n";
  return code;
}

void AddFile(CLI::App* command, Options* options) {
  command->add_option("FILE", options->file, "ONNX file")->required();
}

// Parses and runs; CLI11 throws for wrong usage and for --help.
int ParseAndRun(const std::vector<std::string>& args) {
  Options options;
  CLI::App app("Commands on ONNX files", "tandem model");
  app.require_subcommand(1);
  CLI::App* make = app.add_subcommand("new", "Write a starting file for training");
  make->add_option("--arch", options.architecture.name, "Architecture")
      ->required()
      ->check(CLI::IsMember(graph::ArchitectureNames()));
  make->add_option("--input", options.input, "Channels x height x width, as 1x28x28; mlp also takes one number")
      ->required();
  make->add_option("--classes", options.architecture.classes, "Number of classes")->required();
  make->add_option("--seed", options.architecture.seed, "Seed of the initial weights");
  make->add_option("--hidden", options.hidden, "Layer widths of mlp, as 256,128");
  make->add_option("--out", options.out, "ONNX file to write")->required();
  CLI::App* show = app.add_subcommand("show", "Inputs, outputs, parameters, costs");
  AddFile(show, &options);
  show->add_flag("--json", options.as_json, "One JSON object");
  CLI::App* join = app.add_subcommand("join", "Join a model and its external data into one file");
  AddFile(join, &options);
  join->add_option("--out", options.out, "ONNX file to write")->required();
  join->add_flag("--json", options.as_json, "Print inputs and outputs as one JSON object");
  CLI::App* check = app.add_subcommand("check-graph", "Say whether the file is a model that can be used");
  AddFile(check, &options);
  check->add_flag("--json", options.as_json, "One JSON object");

  try {
    std::vector<std::string> reversed(args.rbegin(), args.rend());
    if (!reversed.empty() && reversed.back() == "model") reversed.pop_back();
    app.parse(reversed);
  } catch (const CLI::Success& e) {
    return app.exit(e);  // --help
  } catch (const CLI::ParseError& e) {
    std::cerr << "error: " << e.what() << "\n";
    return kUsage;
  }
  if (make->parsed()) {
    const absl::Status status = New(options);
    return Report(status, absl::IsInvalidArgument(status) ? kUsage : kFailed);
  }
  if (show->parsed()) return Report(Show(options));
  if (join->parsed()) return Report(Join(options));
  return Report(CheckGraph(options));
}

}  // namespace

int RunGraphCommand(const std::vector<std::string>& args) {
  try {
    return ParseAndRun(args);
  } catch (const std::exception& e) {
    std::cerr << "error: " << e.what() << "\n";
    return kFailed;
  }
}

}  // namespace tandem
