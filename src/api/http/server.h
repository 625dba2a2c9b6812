#pragma once
// The HTTP door: Open Inference Protocol v2, the management API (/api/v1), metrics. Translation only.
//
// Threads: `io_threads` data-plane threads with one epoll descriptor each accept connections, read, decode, run
// inference and answer; everything else is handed to a pool of normal-class threads, its answer posted back.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "api/service.h"
#include "base/paced_writer.h"

namespace tandem::api::http {

struct Token {
  std::string name;    // who it stands for
  std::string secret;  // at least 16 characters
};
// One "name:secret" a line, '#' comments; refused when others than the owner may read the file.
absl::StatusOr<std::vector<Token>> ReadTokenFile(const std::string& path);

struct ServerSettings {
  std::string host = "127.0.0.1";
  int port = 8000;  // 0 = any free one
  std::string metrics_host = "127.0.0.1";
  int metrics_port = 8002;
  int io_threads = 2;
  int control_threads = 4;
  int64_t max_body_bytes = 256 << 20;           // of one request; larger ones are refused before they are read
  int64_t max_upload_bytes = int64_t{2} << 30;  // models and data sets, spooled to disk
  int64_t max_header_bytes = 16 << 10;
  int max_connections = 4096;
  int max_json_depth = 64;
  double read_timeout_s = 30;  // for a whole header, and between two pieces of a body
  double idle_timeout_s = 300;
  std::string spool_folder;  // for uploads
  // Of models' uploads and of data sets', which outlive the server; null = as fast as the disk.
  PacedWriter* model_pace = nullptr;
  PacedWriter* dataset_pace = nullptr;
  std::vector<Token> tokens;  // REQUIRED to listen on another address than loopback
  // Called by each data-plane thread, with its name, before it serves: for its scheduling class.
  std::function<void(const std::string& thread)> on_io_thread;
};

class Server {
 public:
  // Binds both ports. FailedPrecondition names the process that holds a taken port (pid and name where visible), and is
  // given for an address other than loopback without tokens.
  static absl::StatusOr<std::unique_ptr<Server>> Create(const ServerSettings& settings, const Services& services);
  virtual ~Server() = default;
  virtual absl::Status Start() = 0;
  // Stops accepting, lets requests in flight end (at most drain_s), joins all threads.
  virtual void Stop(double drain_s) = 0;
  virtual std::string http_address() const = 0;  // "127.0.0.1:8000"
  virtual std::string metrics_address() const = 0;
};

}  // namespace tandem::api::http
