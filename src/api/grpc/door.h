#pragma once
// What all threads of a server share.
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include <optional>
#include <string>
#include <vector>

#include "api/grpc/method.h"
#include "api/grpc/server.h"
#include "api/http/access.h"
#include "api/http/control_pool.h"
#include "api/http/peer.h"

namespace tandem::api::rpc {

// The methods as gRPC wants to know them. Messages stay bytes: what they mean is the rows' business.
class RawService : public ::grpc::Service {
 public:
  // `methods` outlives it.
  explicit RawService(const std::vector<Method>& methods) {
    using ::grpc::internal::RpcMethod;
    for (size_t i = 0; i < methods.size(); ++i) {
      auto type = methods[i].stream ? RpcMethod::BIDI_STREAMING : RpcMethod::NORMAL_RPC;
      AddMethod(new ::grpc::internal::RpcServiceMethod(methods[i].path.c_str(), type, nullptr));
      MarkMethodRaw(static_cast<int>(i));
    }
  }
  using ::grpc::Service::RequestAsyncBidiStreaming;
  using ::grpc::Service::RequestAsyncUnary;
};

// Made before the threads start and outliving them; everything but the atomics is then constant.
struct Door {
  // Loads, and long waits for them, each hold one.
  static constexpr int kSlowThreads = 4;

  Door(const ServerSettings& s, const Services& v, std::vector<Method> m)
      : settings(s),
        services(v),
        methods(std::move(m)),
        service(methods),
        quick("grpc-control", s.control_threads),
        slow("grpc-slow", kSlowThreads) {}

  // The caller of a method as far as its metadata says; Unauthenticated. Cheap.
  absl::Status CheckToken(const ::grpc::ServerContext& context, const Method& method, Caller* caller) const;
  // REQUIRES: CheckToken passed. Looks the peer's user up where that decides. Data-plane threads call it for methods
  // alone that need kNothing or kUse, where it never does.
  absl::Status CheckCaller(const ::grpc::ServerContext& context, const Method& method, Caller* caller) const;

  const ServerSettings settings;
  const Services services;
  const std::vector<Method> methods;
  RawService service;
  std::optional<http::AccessPolicy> policy;  // set before the threads start
  http::Endpoint endpoint;                   // where the server listens
  http::ControlPool quick, slow;
};

// "ipv4:127.0.0.1:5000", "ipv6:%5B::1%5D:5000" as gRPC writes a peer; empty for anything else.
std::optional<http::Endpoint> EndpointOfPeer(std::string_view peer);
// An address and a port as numbers, "127.0.0.1" or "::1".
std::optional<http::Endpoint> MakeEndpoint(const std::string& address, int port);

}  // namespace tandem::api::rpc
