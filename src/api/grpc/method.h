#pragma once
// One row a method: its path, who may call it, and how it is served. To add a service to the door, write its rows
// (Unary for a verb, `codec` for a way to infer) and give them to Server::Create.
#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "api/grpc/bytes.h"
#include "api/grpc/infer_codec.h"
#include "api/http/router.h"
#include "api/service.h"
#include "base/status.h"

namespace tandem::api::rpc {

class IoGroup;
class StreamCall;

// What a handler knows of its call.
struct Context {
  const Services& services;
  Caller caller;
};

// Reads the request, does the work, writes the answer. On a thread of its method's plane.
using UnaryHandler =
    std::function<absl::Status(const Context& context, ::grpc::ByteBuffer* request, ::grpc::ByteBuffer* answer)>;
// How one call infers; called once per call object, which is reused.
using CodecFactory = std::function<std::unique_ptr<InferCodec>()>;
// A call of the method with the index `method`.
using StreamFactory = std::function<std::unique_ptr<StreamCall>(IoGroup* group, size_t method)>;

struct Method {
  std::string path;  // "/package.Service/Method"
  http::Need need = http::Need::kUse;
  // Exactly one of these three is set.
  UnaryHandler unary = nullptr;
  CodecFactory codec = nullptr;
  StreamFactory stream = nullptr;
  // Of a unary one: kAtOnce, kQuick, or kSlow for what may wait, as for a load to end. With kAtOnce requests have 64 kB
  // at most; REQUIRES: `need` is kNothing or kUse.
  http::Plane plane = http::Plane::kQuick;
};

// A verb with typed messages.
template <typename Request, typename Response>
Method Unary(std::string_view path, http::Need need,
             absl::Status (*handler)(const Context& context, const Request& request, Response* response),
             http::Plane plane = http::Plane::kQuick) {
  Method method{.path = std::string(path), .need = need, .plane = plane};
  method.unary = [handler](const Context& context, ::grpc::ByteBuffer* request, ::grpc::ByteBuffer* answer) {
    Request parsed;
    TANDEM_RETURN_IF_ERROR(ParseMessage(request, &parsed));
    Response response;
    TANDEM_RETURN_IF_ERROR(handler(context, parsed, &response));
    WriteMessage(response, answer);
    return absl::OkStatus();
  };
  return method;
}

// The rows of this module.
std::vector<Method> InferenceMethods();
std::vector<Method> HealthMethods();
// `all`: what the server serves; names and files come from the descriptors that the program holds.
std::vector<Method> ReflectionMethods(const std::vector<Method>& all);

// "/package.Service/Method" -> "package.Service".
std::string_view ServiceOf(std::string_view path);

}  // namespace tandem::api::rpc
