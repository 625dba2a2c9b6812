#include "api/grpc/server.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <set>

#include "api/grpc/acceptor.h"
#include "api/grpc/door.h"
#include "api/grpc/io_group.h"
#include "api/http/listener.h"
#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::api::rpc {
namespace {

// Messages that gRPC holds in memory at the same time, in largest messages; no less than so many bytes.
constexpr int64_t kLargeMessages = 4, kLeastMemory = 1 << 30;
// Threads that share a completion queue. One at a time reads, so more of them would wait for it.
constexpr int kGroupThreads = 4;
constexpr int kHandshakeMillis = 10'000;
constexpr int kFrameBytes = 1 << 20, kWindowBytes = 4 << 20;
// Clients that ping more often are closed.
constexpr int kFastestPingMillis = 10'000;

// gRPC's own words go where ours go.
void ForwardLog(gpr_log_func_args* args) {
  if (args->severity < GPR_LOG_SEVERITY_ERROR) return;
  Log(LogLevel::kDebug, "grpc", {{"message", args->message}});
}

// Protobuf's too: a client's bad bytes are answered, and no line on stderr.
void ForwardProtobufLog(google::protobuf::LogLevel, const char*, int, const std::string& message) {
  Log(LogLevel::kDebug, "protobuf", {{"message", message}});
}

void ForwardLogs() {
  static const bool once = [] {
    gpr_set_log_function(ForwardLog);
    google::protobuf::SetLogHandler(ForwardProtobufLog);
    return true;
  }();
  (void)once;
}

absl::Status CheckSettings(const ServerSettings& settings) {
  if (settings.io_threads < 1) return InvalidArgument("io_threads is ", settings.io_threads, ", must be 1 or more");
  if (settings.control_threads < 1) {
    return InvalidArgument("control_threads is ", settings.control_threads, ", must be 1 or more");
  }
  if (settings.max_message_bytes < 1 || settings.max_message_bytes > std::numeric_limits<int>::max()) {
    return InvalidArgument("max_message_bytes is ", settings.max_message_bytes, ", must be 1 to 2147483647");
  }
  if (settings.max_connections < 1) {
    return InvalidArgument("max_connections is ", settings.max_connections, ", must be 1 or more");
  }
  if (settings.max_streams < 1) return InvalidArgument("max_streams is ", settings.max_streams, ", must be 1 or more");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Method>> AllMethods(std::vector<Method> more) {
  std::vector<Method> methods = InferenceMethods();
  for (Method& method : HealthMethods()) methods.push_back(std::move(method));
  for (Method& method : more) methods.push_back(std::move(method));
  for (Method& method : ReflectionMethods(methods)) methods.push_back(std::move(method));
  std::set<std::string_view> paths;
  for (const Method& method : methods) {
    if (!paths.insert(method.path).second) return InvalidArgument("method '", method.path, "' is listed twice");
    if ((method.unary != nullptr) + (method.codec != nullptr) + (method.stream != nullptr) != 1) {
      return InvalidArgument("method '", method.path, "' must be served in exactly one way");
    }
  }
  return methods;
}

class ServerImpl : public Server {
 public:
  ServerImpl(const ServerSettings& settings, const Services& services, std::vector<Method> methods)
      : door_(settings, services, std::move(methods)) {}
  ~ServerImpl() override {
    Stop(0);
    server_.reset();
  }

  absl::Status Listen() {
    const ServerSettings& settings = door_.settings;
    TANDEM_ASSIGN_OR_RETURN(http::BoundSocket bound,
                            http::Bind(settings.host, settings.port, settings.tokens, &door_.policy));
    door_.endpoint = bound.endpoint;
    ::grpc::ServerBuilder builder;
    Configure(&builder);
    acceptor_.emplace(std::move(bound.fd), settings.max_connections,
                      builder.experimental().AddExternalConnectionAcceptor(
                          ::grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
                          ::grpc::InsecureServerCredentials()),
                      settings.on_io_thread);
    builder.RegisterService(&door_.service);
    for (int i = 0; i < settings.io_threads; i += kGroupThreads) {
      const int threads = std::min(kGroupThreads, settings.io_threads - i);
      groups_.push_back(std::make_unique<IoGroup>(&door_, i, threads, builder.AddCompletionQueue()));
    }
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return FailedPrecondition("start gRPC for ", door_.endpoint.ToText());
    return absl::OkStatus();
  }

  absl::Status Start() override {
    if (started_) return FailedPrecondition("the gRPC server was started before");
    return CatchToStatus("start the gRPC server", [this]() -> absl::Status {
      started_ = true;
      door_.quick.Start();
      door_.slow.Start();
      for (const auto& group : groups_) group->Start();
      acceptor_->Start();
      return absl::OkStatus();
    });
  }

  void Stop(double drain_s) override {
    if (stopped_ || server_ == nullptr) return;
    stopped_ = true;
    acceptor_->Stop();
    if (started_) {
      for (const auto& group : groups_) group->Drain();
    }
    // Calls that do not end in time are cancelled, and may still be worked on when this returns.
    server_->Shutdown(std::chrono::system_clock::now() +
                      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(drain_s)));
    for (const auto& group : groups_) group->Stop();
    // Nothing is left in them: each piece belonged to a call.
    door_.quick.Stop();
    door_.slow.Stop();
  }

  std::string address() const override { return door_.endpoint.ToText(); }

 private:
  void Configure(::grpc::ServerBuilder* builder) {
    const ServerSettings& settings = door_.settings;
    builder->SetMaxReceiveMessageSize(static_cast<int>(settings.max_message_bytes));
    builder->SetMaxSendMessageSize(-1);
    builder->SetResourceQuota(
        ::grpc::ResourceQuota("grpc door")
            .Resize(static_cast<size_t>(std::max<int64_t>(kLargeMessages * settings.max_message_bytes, kLeastMemory))));
    // Unpack does it, with a bound.
    builder->AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
    builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, settings.max_streams);
    // Large tensors: fewer, larger frames, and no wait for the other side's leave every 64 kB.
    builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kFrameBytes);
    builder->AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
    builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMillis);
    builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kFastestPingMillis);
  }

  Door door_;
  std::vector<std::unique_ptr<IoGroup>> groups_;
  std::unique_ptr<::grpc::Server> server_;  // before the queues of the groups
  std::optional<Acceptor> acceptor_;        // before the server
  bool started_ = false, stopped_ = false;
};

}  // namespace

std::string_view ServiceOf(std::string_view path) {
  size_t end = path.rfind('/');
  return end == 0 || end == path.npos ? std::string_view() : path.substr(1, end - 1);
}

absl::StatusOr<std::unique_ptr<Server>> Server::Create(const ServerSettings& settings, const Services& services,
                                                       std::vector<Method> more) {
  ForwardLogs();
  return CatchToStatus("make the gRPC server", [&]() -> absl::StatusOr<std::unique_ptr<Server>> {
    TANDEM_RETURN_IF_ERROR(CheckSettings(settings));
    TANDEM_ASSIGN_OR_RETURN(std::vector<Method> methods, AllMethods(std::move(more)));
    auto server = std::make_unique<ServerImpl>(settings, services, std::move(methods));
    TANDEM_RETURN_IF_ERROR(server->Listen());
    return std::unique_ptr<Server>(std::move(server));
  });
}

}  // namespace tandem::api::rpc
