#pragma once
// What every command shares: the global options, the server, and where output goes.
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "google/protobuf/message.h"
#include "tandem/command.h"
#include "tandem/exit_code.h"
#include "tandem/terminal.h"

namespace tandem::cli {

// Thread-compatible; lives as long as the program.
class Session {
 public:
  // Reads TANDEM_URL and TANDEM_TOKEN.
  Session();
  void AddGlobalOptions(Command& root);

  // Connects lazily; owned by the session. Its calls end with Cancelled after Ctrl-C once CatchInterrupts ran.
  absl::StatusOr<client::Client*> Client();

  bool json = false;
  std::string url, token;
  Style style;  // of stdout

  // One JSON value on its own line, at once.
  void PrintJson(const google::protobuf::Message& message);
  void PrintJsonText(std::string_view json);
  // For people.
  void Print(std::string_view text);

 private:
  std::unique_ptr<client::Client> client_;
};

// From now on Ctrl-C and SIGTERM are counted instead of ending the program.
void CatchInterrupts();
int Interrupts();
// Puts back what Ctrl-C does by default.
void ReleaseInterrupts();

// {"error": ..., "exit_code": N}
std::string ErrorJson(std::string_view message, Exit exit);
// {"out": FILE}
std::string OutJson(std::string_view file);

double NowUnixMillis();

}  // namespace tandem::cli
