#include "tandem/session.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/clock.h"
#include "client/json.h"
#include "nlohmann/json.hpp"

namespace tandem::cli {
namespace {

volatile std::sig_atomic_t interrupts = 0;

std::string Environment(const char* name, std::string_view otherwise) {
  const char* value = getenv(name);
  return value && *value ? value : std::string(otherwise);
}

void SetHandler(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;  // without SA_RESTART: a prompt that waits ends with EINTR
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

Session::Session()
    : url(Environment("TANDEM_URL", client::kDefaultUrl)),
      token(Environment("TANDEM_TOKEN", "")),
      style(Style::For(STDOUT_FILENO)) {}

void Session::AddGlobalOptions(Command& root) {
  root.Flag("--json", &json, "Print JSON, and nothing else on stdout")
      .Option("--url", &url, "Server, http://HOST:PORT")
      .Option("--token", &token,
              "Token of a server that is not on loopback (visible to others in the process list: "
              "prefer TANDEM_TOKEN)");
}

absl::StatusOr<client::Client*> Session::Client() {
  if (!client_) {
    client::Endpoint endpoint{.url = url, .token = token, .interrupted = [] { return Interrupts() > 0; }};
    absl::StatusOr<std::unique_ptr<client::Client>> client = client::Client::Create(std::move(endpoint));
    if (!client.ok()) return Usage(MessageOf(client.status()));
    client_ = *std::move(client);
  }
  return client_.get();
}

void Session::PrintJson(const google::protobuf::Message& message) { PrintJsonText(client::ToJson(message)); }

void Session::PrintJsonText(std::string_view text) {
  Print(text);
  Print("\n");
  std::fflush(stdout);
}

void Session::Print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void CatchInterrupts() {
  interrupts = 0;
  SetHandler([](int) { interrupts = interrupts + 1; });
}

int Interrupts() { return interrupts; }

void ReleaseInterrupts() {
  interrupts = 0;
  SetHandler(SIG_DFL);
}

std::string ErrorJson(std::string_view message, Exit exit) {
  nlohmann::json json = {{"error", std::string(message)}, {"exit_code", static_cast<int>(exit)}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string OutJson(std::string_view file) {
  return nlohmann::json{{"out", std::string(file)}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

double NowUnixMillis() { return static_cast<double>(Clock::Real()->UnixMillis()); }

}  // namespace tandem::cli
