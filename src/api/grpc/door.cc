#include "api/grpc/door.h"

#include <arpa/inet.h>

#include <charconv>

#include "base/status.h"

namespace tandem::api::rpc {
namespace {

// The brackets of an IPv6 address come percent-encoded.
std::string WithoutBrackets(std::string_view text) {
  for (std::string_view opening : {"%5B", "["}) {
    if (text.starts_with(opening)) text.remove_prefix(opening.size());
  }
  for (std::string_view closing : {"%5D", "]"}) {
    if (text.ends_with(closing)) text.remove_suffix(closing.size());
  }
  return std::string(text);
}

}  // namespace

std::optional<http::Endpoint> MakeEndpoint(const std::string& address, int port) {
  http::Endpoint endpoint;
  endpoint.port = static_cast<uint16_t>(port);
  if (inet_pton(AF_INET, address.c_str(), endpoint.address) == 1) return endpoint;
  endpoint.family = AF_INET6;
  if (inet_pton(AF_INET6, address.c_str(), endpoint.address) == 1) return endpoint;
  return std::nullopt;
}

std::optional<http::Endpoint> EndpointOfPeer(std::string_view peer) {
  size_t family = peer.find(':'), colon = peer.rfind(':');
  if (family == colon || colon == std::string_view::npos) return std::nullopt;
  std::string_view digits = peer.substr(colon + 1);
  int port = 0;
  if (std::from_chars(digits.data(), digits.data() + digits.size(), port).ec != std::errc()) return std::nullopt;
  return MakeEndpoint(WithoutBrackets(peer.substr(family + 1, colon - family - 1)), port);
}

absl::Status Door::CheckToken(const ::grpc::ServerContext& context, const Method& method, Caller* caller) const {
  std::string_view authorization;
  // Without tokens none is looked at, and metadata stays unread.
  if (!settings.tokens.empty()) {
    auto found = context.client_metadata().find("authorization");
    if (found != context.client_metadata().end()) {
      authorization = {found->second.data(), found->second.size()};
    }
  }
  return policy->CheckToken(authorization, method.need, caller);
}

absl::Status Door::CheckCaller(const ::grpc::ServerContext& context, const Method& method, Caller* caller) const {
  std::optional<http::Endpoint> peer = EndpointOfPeer(context.peer());
  caller->local = peer.has_value() && peer->IsLoopback();
  if (method.need != http::Need::kManage && method.need != http::Need::kLocal) return absl::OkStatus();
  absl::Status may = [&]() -> absl::Status {
    if (caller->may_manage) return absl::OkStatus();
    if (!peer.has_value()) {
      return PermissionDenied("cannot tell which user owns the connection from ", context.peer());
    }
    return policy->CheckManage(*peer, endpoint, caller);
  }();
  return method.need == http::Need::kManage ? may : absl::OkStatus();
}

}  // namespace tandem::api::rpc
