#pragma once
// A listening socket: found, bound, and its connections dealt to the data-plane threads in turn.
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "api/http/door.h"
#include "api/http/io_thread.h"
#include "api/http/peer.h"
#include "base/fd.h"

namespace tandem::api::http {

struct BoundSocket {
  UniqueFd fd;
  Endpoint endpoint;  // with the port that was taken, where any was asked for
};
// Looks the host up, checks it against `tokens` (see AccessPolicy), binds and listens. FailedPrecondition names the
// holder of a taken port.
absl::StatusOr<BoundSocket> Bind(const std::string& host, int port, const std::vector<Token>& tokens,
                                 std::optional<AccessPolicy>* policy);

// One acceptor: kernel-side balancing (SO_REUSEPORT) would put few connections on one thread as likely as not. Its
// methods run on the first data-plane thread but for the constructor.
class Listener {
 public:
  // All pointers outlive it.
  Listener(BoundSocket socket, Port port, Door* door, std::vector<IoThread*> threads);
  void Start();
  void Stop();
  std::string address() const { return endpoint_.ToText(); }

 private:
  void Wait();
  void AcceptAll();
  void RetryLater();

  const Endpoint endpoint_;
  const Port port_;
  Door* const door_;
  const std::vector<IoThread*> threads_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer retry_;
  size_t next_thread_ = 0;
};

}  // namespace tandem::api::http
