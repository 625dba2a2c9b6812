#pragma once
// The gRPC door: Open Inference Protocol v2, health, reflection, and whatever methods it is given besides. Translation
// only.
//
// Threads: `io_threads` data-plane threads, up to four to a completion queue, read, decode, run inference and answer,
// and run queued inference between two events; every other verb is handed to a pool of normal-class threads. gRPC's own
// threads (timers, name look-ups) are of the normal class and do no work of a request.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "api/grpc/method.h"
#include "api/http/server.h"
#include "api/service.h"

namespace tandem::api::rpc {

struct ServerSettings {
  std::string host = "127.0.0.1";
  int port = 8001;  // 0 = any free one
  int io_threads = 2;
  int control_threads = 2;
  int64_t max_message_bytes = 64 << 20;  // of one request, unpacked; larger ones end with RESOURCE_EXHAUSTED
  int max_connections = 4096;            // open at the same time; further ones are told so and closed
  int max_streams = 1024;                // calls of one connection at the same time; further ones wait at the client
  std::vector<http::Token> tokens;       // REQUIRED to listen on another address than loopback
  // Called by each data-plane thread, with its name, before it serves: for its scheduling class.
  std::function<void(const std::string& thread)> on_io_thread;
};

class Server {
 public:
  // Binds the port. `more`: methods beside those of this module; their paths must be new. FailedPrecondition names the
  // process that holds a taken port, and is given for an address other than loopback without tokens.
  static absl::StatusOr<std::unique_ptr<Server>> Create(const ServerSettings& settings, const Services& services,
                                                        std::vector<Method> more = {});
  virtual ~Server() = default;
  virtual absl::Status Start() = 0;
  // Takes no more calls, lets those in flight end (at most drain_s, then they are cancelled), joins all threads.
  virtual void Stop(double drain_s) = 0;
  virtual std::string address() const = 0;  // "127.0.0.1:8001"
};

}  // namespace tandem::api::rpc
