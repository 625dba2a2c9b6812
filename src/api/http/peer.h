#pragma once
// What the kernel knows of local TCP sockets: whose they are.
#include <netinet/in.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace tandem::api::http {

// One end of a TCP connection, IPv4 or IPv6.
struct Endpoint {
  int family = AF_INET;
  unsigned char address[16] = {};  // network order, 4 bytes used for AF_INET
  uint16_t port = 0;               // host order
  bool IsLoopback() const;
  std::string ToText() const;  // "127.0.0.1:8000", "[::1]:8000"
};
Endpoint EndpointOf(const sockaddr_storage& address);

// The user that owns the socket `peer`, which is connected to our `local`: asks sock_diag (netlink, one exact query),
// else reads /proc/net/tcp. Empty when neither knows it.
std::optional<uid_t> UidOfPeer(const Endpoint& peer, const Endpoint& local);

// The second of these ways alone.
std::optional<uid_t> UidFromProc(const Endpoint& peer, const Endpoint& local);

// Who listens on the port, in words: "process 123 (nginx)", "a process of user 'www-data'", or "another process".
std::string HolderOfPort(uint16_t port);

// The user's name, or the number as text.
std::string UserName(uid_t uid);

}  // namespace tandem::api::http
