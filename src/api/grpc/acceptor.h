#pragma once
// Takes connections in for gRPC: its own listener would never accept again once descriptors had run out, and knows no
// limit.
#include <grpcpp/server_builder.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace tandem::api::rpc {

// One thread, which sleeps while no connection comes; of the class of the data plane, as it takes gRPC's locks. Start
// and Stop are one thread's.
class Acceptor {
 public:
  using Taker = std::unique_ptr<::grpc::experimental::ExternalConnectionAcceptor>;

  // `listening`: a bound, non-blocking socket. Beyond `most` open connections, or where descriptors become rare, a
  // connection gets a GOAWAY that says so, and is closed.
  // `on_thread` is called by the thread, with its name, before all.
  Acceptor(UniqueFd listening, int most, Taker taker, std::function<void(const std::string&)> on_thread);
  ~Acceptor() { Stop(); }
  // After the server was started.
  void Start();
  // Before the server is shut down.
  void Stop();

 private:
  // gRPC does not tell when it closed one: its descriptor is then no socket any more, or another one.
  struct Connection {
    int fd;
    ino_t inode;
  };

  void Run();
  void Take(UniqueFd fd);
  bool HasRoomFor(int fd);

  UniqueFd listening_, stop_event_;
  const size_t most_;
  const Taker taker_;
  const std::function<void(const std::string&)> on_thread_;
  // The thread's: no more than `most_`, and perhaps some that are closed.
  std::vector<Connection> connections_;
  int64_t looked_ns_ = 0;
  std::thread thread_;
};

}  // namespace tandem::api::rpc
