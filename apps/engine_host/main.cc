// tandem-engine-host: what touches untrusted model files outside the daemon. Exit codes: 0 done, 1 failed (the reason
// is on stderr), 2 wrong usage.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/strings.h"
#include "engine/engine.h"
#include "graph_commands.h"
#include "measure_command.h"
#include "own_writes.h"
#include "prepare_command.h"
#include "run_command.h"
#include "serve_command.h"

namespace {

constexpr int kUsage = 2;

// Takes new rates of the disk (a double each, bytes a second) from the server that started this process, and ends it
// when the server is gone, even in the middle of an engine's endless loop.
void ListenToParent() {
  const char* socket = std::getenv("TANDEM_PARENT_SOCKET");
  if (socket == nullptr) return;
  std::thread([fd = std::atoi(socket)] {
    double rate = 0;
    while (tandem::ReadExactly(fd, &rate, sizeof rate).ok()) OwnWrites()->SetRate(rate);
    _exit(1);
  }).detach();
}

// The server reads the last line of stderr.
int Finish(const absl::Status& status) {
  if (status.ok()) return 0;
  std::string text(tandem::MessageOf(status));
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::fprintf(stderr, "%s\n", text.c_str());
  return 1;
}

int ListEngines(bool json) {
  nlohmann::json list = nlohmann::json::array();
  for (const tandem::engine::EngineInfo& info : tandem::engine::ListEngines()) {
    list.push_back({{"name", info.name}, {"version", info.version}, {"path", info.path}, {"error", info.error}});
    if (json) continue;
    std::string state = info.error.empty() ? info.version : "unusable: " + info.error;
    std::printf("%-16s %s\n%-16s %s\n", info.name.c_str(), state.c_str(), "", info.path.c_str());
  }
  if (json) std::printf("%s\n", list.dump().c_str());
  return 0;
}

void AddModelOptions(CLI::App* command, tandem::engine::Options* options) {
  command->add_option("--precision", options->precision, "f32, bf16 or f16")->capture_default_str();
  command->add_option("--device", options->device, "The engine's name of the device")->capture_default_str();
  command->add_option("--threads", options->threads, "Of one instance")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
}

CLI::App* AddSamples(CLI::App& app, SamplesArguments* samples) {
  CLI::App* command = app.add_subcommand("samples", "Write inputs to measure a prepared model with");
  command->add_option("--engine", samples->engine, "Name of the engine")->required();
  command->add_option("--folder", samples->folder, "What 'prepare' made")->required();
  command->add_option("--batch", samples->batch, "Rows of the larger run")->check(CLI::Range(1, 4096));
  command->add_option("--dataset", samples->dataset, "A file with the record of a data set");
  command->add_option("--out", samples->out, "The file to write")->required();
  AddModelOptions(command, &samples->options);
  return command;
}

CLI::App* AddMeasure(CLI::App& app, MeasureArguments* measure) {
  CLI::App* command = app.add_subcommand("measure", "Run samples on a prepared model: outputs and latency");
  command->add_option("--engine", measure->engine, "Name of the engine")->required();
  command->add_option("--folder", measure->folder, "What 'prepare' made")->required();
  command->add_option("--samples", measure->samples, "What 'samples' wrote")->required();
  command->add_option("--outputs", measure->outputs, "The file to write the outputs into");
  command->add_option("--reference", measure->reference, "Outputs of another engine, to compare with");
  command->add_option("--out", measure->out, "The JSON file to write what was found into")->required();
  AddModelOptions(command, &measure->options);
  return command;
}

int Main(int argc, char** argv) {
  static const std::set<std::string> kGraphCommands = {"new", "show", "join", "check-graph"};
  if (argc >= 3 && std::string(argv[1]) == "model" && kGraphCommands.contains(argv[2])) {
    return tandem::RunGraphCommand(std::vector<std::string>(argv + 2, argv + argc));
  }
  CLI::App app("Checks, prepares and runs models outside the server; 'tandem' and the server start it.");
  app.name("tandem-engine-host");
  app.require_subcommand(1);

  PrepareArguments prepare;
  CLI::App* prepare_command = app.add_subcommand("prepare", "Compile a model for an engine into a folder");
  prepare_command->add_option("--engine", prepare.engine, "Name of the engine")->required();
  prepare_command->add_option("--model", prepare.model, "The model file")->required();
  prepare_command->add_option("--out", prepare.folder, "An empty folder")->required();
  AddModelOptions(prepare_command, &prepare.options);

  ServeArguments serve;
  CLI::App* serve_command = app.add_subcommand("serve", "Answer the runs of the server that started this process");
  serve_command->add_option("--engine", serve.engine, "Name of the engine")->required();
  serve_command->add_option("--folder", serve.folder, "What 'prepare' made")->required();
  serve_command->add_option("--fd", serve.fd, "The descriptor of the socket to the server")->required();
  AddModelOptions(serve_command, &serve.options);

  SamplesArguments samples;
  CLI::App* samples_command = AddSamples(app, &samples);
  MeasureArguments measure;
  CLI::App* measure_command = AddMeasure(app, &measure);

  CLI::App* model_command = app.add_subcommand("model", "new, show, join, check-graph or run; see each with --help");
  model_command->require_subcommand(1);
  for (const std::string& name : kGraphCommands) model_command->add_subcommand(name);
  RunArguments run;
  CLI::App* run_command = model_command->add_subcommand("run", "Run a model once on given inputs");
  run_command->add_option("model", run.model, "The ONNX file")->required();
  run_command->add_option("--engine", run.engine, "Name of the engine")->capture_default_str();
  run_command->add_option("--inputs", run.inputs, "x.npz (by input name) or a folder of input_N.pb")->required();
  run_command->add_option("--out", run.out, "y.npz")->required();
  AddModelOptions(run_command, &run.options);

  bool json = false;
  CLI::App* engines_command = app.add_subcommand("engines", "List the engine plug-ins that are found");
  engines_command->add_flag("--json", json, "One JSON array");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  if (prepare_command->parsed()) return Finish(PrepareModel(prepare));
  if (samples_command->parsed()) return Finish(WriteSamplesFor(samples));
  if (measure_command->parsed()) return Finish(MeasureEngine(measure));
  if (serve_command->parsed()) return ServeModel(serve).ok() ? 0 : 1;  // it tells the server itself
  if (run_command->parsed()) return Finish(RunModel(run));
  return ListEngines(json);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    ListenToParent();
    return Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tandem-engine-host: %s\n", error.what());
    return 1;
  }
}
