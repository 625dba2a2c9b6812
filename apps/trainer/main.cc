// tandem-trainer: trains one job for the daemon, or alone.
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <climits>
#include <cstdio>
#include <string>

#include "base/status.h"
#include "interpreter/interpreter.h"
#include "messaging/channel.h"
#include "training/job.h"
#include "training/reference.h"
#include "training/standalone.h"

namespace {

// Tensors are large and short-lived: keep their memory instead of giving it back to the kernel after each operator.
void TuneMalloc() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
}

// OpenMP reads its settings before main begins; a spinning OpenMP thread would take a core from serving.
void WaitPassively(char** argv) {
  if (getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
  execv("/proc/self/exe", argv);  // on failure go on as we are: training itself uses no OpenMP threads
}

int Report(const absl::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "tandem-trainer: %s\n", std::string(tandem::MessageOf(status)).c_str());
  return 1;
}

int PrintOperators() {
  std::string json = "[";
  for (const std::string& name : tandem::interpreter::SupportedOperators()) {
    if (json.size() > 1) json += ", ";
    json += '"' + name + '"';
  }
  std::puts((json + "]").c_str());
  return 0;
}

void AddTrain(CLI::App* app, tandem::training::StandaloneJob* job) {
  app->add_option("SPEC", job->spec, "job spec, YAML")->required();
  app->add_option("--dataset-json", job->dataset, "the data set's record as JSON")->required();
  app->add_option("--out", job->out, "where the trained ONNX file goes")->required();
  app->add_option("--threads", job->threads, "training threads")->check(CLI::Range(1, 1024));
  app->add_option("--folder", job->folder, "for checkpoints; goes on from the latest one there");
  app->add_option("--set", job->overrides, "key.path=value, over the spec");
  app->add_flag("--inspect", job->inspect, "look at the data set's files first; the JSON needs only path and format");
}

void AddRun(CLI::App* app, tandem::training::ReferenceRun* run) {
  app->add_option("FILE", run->model, "ONNX file")->required();
  app->add_option("--inputs", run->inputs, "x.npz, or a folder of input_<N>.pb")->required();
  app->add_option("--out", run->out, "y.npz")->required();
  app->add_flag("--logits", run->logits, "leave out a final Softmax");
}

}  // namespace

int main(int argc, char** argv) {
  WaitPassively(argv);
  TuneMalloc();
  signal(SIGPIPE, SIG_IGN);

  CLI::App app("Trains models. The daemon starts it with `job`; the other verbs need no daemon.", "tandem-trainer");
  app.require_subcommand(1);
  tandem::training::StandaloneJob train;
  tandem::training::ReferenceRun run;
  CLI::App* job_command = app.add_subcommand("job", "do the daemon's job: its socket is descriptor 3");
  CLI::App* train_command = app.add_subcommand("train", "train a spec and print one line of JSON");
  CLI::App* model_command = app.add_subcommand("model", "look at models with the trainer's interpreter");
  model_command->require_subcommand(1);
  CLI::App* run_command = model_command->add_subcommand("run", "run an ONNX file");
  CLI::App* operators_command = model_command->add_subcommand("operators", "print the operators that can be trained");
  AddTrain(train_command, &train);
  AddRun(run_command, &run);
  CLI11_PARSE(app, argc, argv);

  if (*job_command) {
    // Once its checkpoint is durable nothing is waited for: a daemon that was started again wants the job's lock.
    return tandem::training::RunJob(tandem::UniqueFd(tandem::messaging::kChildSocketFd), [](int code) { _exit(code); });
  }
  if (*train_command) return Report(tandem::training::RunStandalone(train));
  if (*run_command) return Report(tandem::training::RunReference(run));
  if (*operators_command) return PrintOperators();
  return 0;
}
