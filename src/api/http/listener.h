#pragma once
// A listening socket: found, bound, and its connections dealt to the data-plane threads in turn.
#include <memory>
#include <optional>
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
// methods run on the first data-plane thread but for the constructor and Start.
class Listener : public Watched, public Posted {
 public:
  // All pointers outlive it.
  Listener(BoundSocket socket, Port port, Door* door, std::vector<IoThread*> threads);
  // Before the threads start.
  absl::Status Start();
  void Stop();
  std::string address() const { return endpoint_.ToText(); }

  // Connections came.
  void OnEvents(uint32_t events) override;
  // Tries again after descriptors had run out.
  void Run() override;

 private:
  const Endpoint endpoint_;
  const Port port_;
  Door* const door_;
  const std::vector<IoThread*> threads_;
  UniqueFd fd_;
  size_t next_thread_ = 0;
};

}  // namespace tandem::api::http
