// tandemd: the server. `tandem serve` becomes it; `tandemd doctor`, `tandemd settings` and
// `tandemd simulate` print and leave.
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "base/strings.h"
#include "base/version.h"
#include "daemon/admin_service.h"
#include "daemon/daemon.h"
#include "daemon/simulate.h"
#include "google/protobuf/util/json_util.h"
#include "spec/settings.h"
#include "telemetry/log.h"

namespace {

// More than there ever are threads. glibc gives the first threads (eight for each CPU) an arena each, and lets all
// later ones share these: a thread that answers requests would wait for a lock of malloc's that one of the lowest class
// holds, which loads a model and is given no CPU while others want it. An arena that nobody uses costs addresses, no
// memory.
constexpr int kMostArenas = 1024;

int Fail(const absl::Status& status) {
  fprintf(stderr, "error: %s\n", std::string(tandem::MessageOf(status)).c_str());
  return 1;
}

int Doctor() {
  auto isolation = tandem::isolation::Isolation::Create({.instance = "doctor", .disk_folder = "."});
  if (!isolation.ok()) return Fail(isolation.status());
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  auto printed = google::protobuf::util::MessageToJsonString(tandem::daemon::ExamineHost(**isolation), &json, options);
  if (!printed.ok()) return 1;
  puts(json.c_str());
  return 0;
}

int Serve(const tandem::spec::Settings& settings) {
  mallopt(M_ARENA_MAX, kMostArenas);  // before any thread exists
  // Blocked before any thread exists, so that all inherit it: one thread takes signals, none is interrupted.
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  auto level = tandem::ParseLogLevel(settings.log.level);
  if (!level.ok()) return Fail(level.status());
  absl::Status logged = tandem::ConfigureLog({.file = settings.log.file, .json = settings.log.json, .level = *level});
  if (!logged.ok()) return Fail(logged);
  auto daemon = tandem::daemon::Daemon::Create(settings);
  if (!daemon.ok()) return Fail(daemon.status());
  // Ended by SIGUSR1, which nobody else sends.
  std::thread signal_thread([&signals, &daemon] {
    for (int signal = 0; sigwait(&signals, &signal) == 0 && signal != SIGUSR1;) (*daemon)->RequestStop();
  });
  absl::Status ran = (*daemon)->Run();
  pthread_kill(signal_thread.native_handle(), SIGUSR1);
  signal_thread.join();
  const bool hangs = (*daemon)->HangsInEngine();
  tandem::FlushLog();
  const int code = ran.ok() ? 0 : Fail(ran);
  if (hangs) _exit(code);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() == 1 && args[0] == "doctor") return Doctor();
  if (args.size() == 1 && args[0] == "--version") {
    printf("tandemd %s\n", tandem::kVersion);
    return 0;
  }
  if (args.size() == 1 && args[0] == "settings") {
    fputs(tandem::spec::SettingsMarkdown().c_str(), stdout);
    return 0;
  }
  if (!args.empty() && args[0] == "simulate")
    return tandem::daemon::RunSimulation(std::vector<std::string>(args.begin() + 1, args.end()));
  for (const std::string& arg : args) {
    if (arg == "--help" || arg == "-h") {
      fputs(tandem::spec::SettingsHelp().c_str(), stdout);
      return 0;
    }
  }
  const char* home = getenv("HOME");
  auto settings = tandem::spec::LoadSettings(args, home == nullptr ? "" : home);
  if (!settings.ok()) {
    Fail(settings.status());
    return 2;
  }
  return Serve(*settings);
}
