#pragma once
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "client/client.h"

namespace tandem::cli {

// A daemon of this program's own: on any free port of loopback, with a data folder that outlives it, in a process group
// of its own (Ctrl-C reaches this program alone), told to end when this program dies. Ends when destroyed; what it
// wrote is in FOLDER/tandemd.log. Thread-compatible.
class PrivateDaemon {
 public:
  // Returns once it is ready. `settings` are "key=value". Call it from the main thread, which the daemon watches.
  static absl::StatusOr<std::unique_ptr<PrivateDaemon>> Start(const std::string& folder,
                                                              const std::vector<std::string>& settings);
  // Asks it to stop, waits, kills it if it does not.
  ~PrivateDaemon();

  client::Client& client() { return *client_; }
  const std::string& address() const { return address_; }  // HOST:PORT
  pid_t pid() const { return pid_; }
  // The lines of /metrics with `word` in their names, without comments; empty when there are none.
  std::vector<std::string> MetricLines(std::string_view word) const;

 private:
  PrivateDaemon(std::string folder, pid_t pid);
  absl::Status WaitUntilReady();
  bool WaitForEnd(int timeout_ms);
  std::string LogTail() const;

  const std::string folder_;
  const pid_t pid_;
  UniqueFd ended_;  // readable once it ended
  std::string address_;
  std::unique_ptr<client::Client> client_;
};

}  // namespace tandem::cli
