#include "daemon/doors.h"

#include <sys/resource.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "api/grpc/tfserving.h"
#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

// Model files, libraries, the database, children, and what is refused.
constexpr rlim_t kOtherDescriptors = 1024;

// "host:port"; "[::1]:8000" too.
absl::StatusOr<std::pair<std::string, int>> SplitAddress(std::string_view name, std::string_view address) {
  size_t colon = address.rfind(':');
  int port = -1;
  if (colon != std::string_view::npos) port = atoi(std::string(address.substr(colon + 1)).c_str());
  if (colon == std::string_view::npos || colon + 1 == address.size() || port < 0 || port > 65535) {
    return InvalidArgument(name, " is '", address, "'; write HOST:PORT, for example 127.0.0.1:8000");
  }
  std::string host(address.substr(0, colon));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return std::make_pair(host, port);
}

// A shell's usual limit is 1024, and both doors together may have twice `connections`.
void MakeRoomForDescriptors(int connections) {
  const rlim_t wanted = 2 * static_cast<rlim_t>(connections) + kOtherDescriptors;
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= wanted) return;
  Log(LogLevel::kWarning, "http.max_connections cannot be reached",
      {{"max_connections", connections},
       {"open_files", limit.rlim_max},
       {"cure", StrCat("allow ", wanted, " open files: ulimit -n, or LimitNOFILE of its systemd unit")}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Doors>> Doors::Create(const spec::Settings& settings, const Paths& paths,
                                                     api::Services services, isolation::Isolation* isolation,
                                                     const UploadPaces& paces, int io_threads) {
  std::unique_ptr<Doors> doors(new Doors);
  services.regions = &doors->regions_;
  api::http::ServerSettings http;
  api::rpc::ServerSettings grpc;
  TANDEM_ASSIGN_OR_RETURN(std::tie(http.host, http.port), SplitAddress("http", settings.http.address));
  TANDEM_ASSIGN_OR_RETURN(std::tie(http.metrics_host, http.metrics_port), SplitAddress("metrics", settings.metrics));
  TANDEM_ASSIGN_OR_RETURN(std::tie(grpc.host, grpc.port), SplitAddress("grpc", settings.grpc));
  if (!settings.http.token_file.empty()) {
    TANDEM_ASSIGN_OR_RETURN(http.tokens, api::http::ReadTokenFile(settings.http.token_file));
  }
  http.io_threads = io_threads;
  http.max_body_bytes = settings.http.max_body_bytes;
  http.max_connections = static_cast<int>(settings.http.max_connections);
  MakeRoomForDescriptors(http.max_connections);
  http.read_timeout_s = settings.http.read_timeout_s;
  http.idle_timeout_s = settings.http.idle_timeout_s;
  http.spool_folder = paths.run().string();
  http.model_pace = paces.models;
  http.dataset_pace = paces.datasets;
  http.on_io_thread = [isolation](const std::string& thread) { isolation->EnterLatencyClass(thread); };
  grpc.io_threads = io_threads;
  grpc.max_connections = http.max_connections;
  grpc.max_message_bytes = settings.http.max_body_bytes;
  grpc.tokens = http.tokens;
  grpc.on_io_thread = http.on_io_thread;
  TANDEM_ASSIGN_OR_RETURN(doors->http_, api::http::Server::Create(http, services));
  TANDEM_ASSIGN_OR_RETURN(doors->grpc_, api::rpc::Server::Create(grpc, services, api::rpc::TfServingMethods()));
  return doors;
}

absl::Status Doors::Start() {
  TANDEM_RETURN_IF_ERROR(http_->Start());
  return grpc_->Start();
}

void Doors::Stop(double drain_s) {
  grpc_->Stop(drain_s / 2);
  http_->Stop(drain_s / 2);
}

}  // namespace tandem::daemon
