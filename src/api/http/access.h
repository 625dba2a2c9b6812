#pragma once
// Who may ask what. On loopback: the Host and Origin headers keep web pages out (DNS rebinding, cross-site requests),
// and the peer's user id decides who manages. On any other address: a token for everything but health.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "api/http/peer.h"
#include "api/http/router.h"
#include "api/http/server.h"

namespace tandem::api::http {

// One listening address as the rules see it. Immutable, thread-safe.
class AccessPolicy {
 public:
  // FailedPrecondition for an address other than loopback without tokens.
  static absl::StatusOr<AccessPolicy> Create(std::string_view bound_host, const Endpoint& bound,
                                             const std::vector<Token>& tokens);

  // Host and Origin. PermissionDenied, or InvalidArgument for a missing or doubled Host.
  absl::Status CheckHeaders(std::string_view host, int host_count, int http_version, std::string_view origin,
                            bool has_origin) const;
  // The token, where one was sent or is needed. Sets the caller's name and rights; Unauthenticated.
  absl::Status CheckToken(std::string_view authorization, Need need, Caller* caller) const;
  // REQUIRES: CheckToken passed. For routes that manage: looks up the peer's user unless a token gave the right.
  absl::Status CheckManage(const Endpoint& peer, const Endpoint& local, Caller* caller) const;

 private:
  AccessPolicy() = default;
  std::string bound_host_;
  bool loopback_ = true;
  std::vector<Token> tokens_;
};

}  // namespace tandem::api::http
