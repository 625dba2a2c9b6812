#include "api/http/server.h"

#include <future>
#include <utility>

#include "api/http/door.h"
#include "api/http/io_thread.h"
#include "api/http/listener.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

class ServerImpl : public Server {
 public:
  ServerImpl(const ServerSettings& settings, const Services& services) : door_(settings, services) {
    for (int i = 0; i < settings.io_threads; ++i) threads_.push_back(std::make_unique<IoThread>(&door_, i));
  }
  ~ServerImpl() override { Stop(0); }

  absl::Status Listen(const std::string& host, int port, bool metrics_only) {
    std::optional<AccessPolicy> policy;
    TANDEM_ASSIGN_OR_RETURN(BoundSocket socket, Bind(host, port, door_.settings.tokens, &policy));
    std::vector<IoThread*> threads;
    for (const auto& thread : threads_) threads.push_back(thread.get());
    listeners_.push_back(std::make_unique<Listener>(std::move(socket), Port{*std::move(policy), metrics_only}, &door_,
                                                    std::move(threads)));
    return absl::OkStatus();
  }

  absl::Status Start() override {
    if (started_) return FailedPrecondition("the HTTP server was started before");
    return CatchToStatus("start the HTTP server", [this]() -> absl::Status {
      for (const auto& listener : listeners_) TANDEM_RETURN_IF_ERROR(listener->Start());
      started_ = true;
      door_.quick.Start();
      door_.slow.Start();
      door_.waiting.Start();
      for (const auto& thread : threads_) thread->Start();
      return absl::OkStatus();
    });
  }

  void Stop(double drain_s) override {
    if (!started_ || stopped_) return;
    stopped_ = true;
    StopListening();
    door_.stopping.store(true);
    for (const auto& thread : threads_) thread->Drain();
    if (!door_.WaitUntilEmpty(drain_s)) {
      for (const auto& thread : threads_) thread->CloseAll();
    }
    // Pools first: what runs in them still uses connections. Then the threads, one after the other: what waits for
    // inference is run or dropped by any that is left.
    door_.quick.Stop();
    door_.slow.Stop();
    door_.waiting.Stop();
    for (const auto& thread : threads_) thread->Stop();
  }

  std::string http_address() const override { return listeners_[0]->address(); }
  std::string metrics_address() const override { return listeners_[1]->address(); }

 private:
  void StopListening() {
    std::promise<void> closed;
    threads_[0]->PostCall([&] {
      for (const auto& listener : listeners_) listener->Stop();
      closed.set_value();
    });
    closed.get_future().wait();
  }

  Door door_;
  std::vector<std::unique_ptr<IoThread>> threads_;
  std::vector<std::unique_ptr<Listener>> listeners_;  // gone before the threads they use
  bool started_ = false, stopped_ = false;
};

absl::Status CheckSettings(const ServerSettings& settings) {
  if (settings.io_threads < 1) return InvalidArgument("io_threads is ", settings.io_threads, ", must be 1 or more");
  if (settings.control_threads < 1) {
    return InvalidArgument("control_threads is ", settings.control_threads, ", must be 1 or more");
  }
  if (settings.max_header_bytes < 256 || settings.max_header_bytes > (1 << 20)) {
    return InvalidArgument("max_header_bytes is ", settings.max_header_bytes, ", must be 256 to 1048576");
  }
  if (settings.max_body_bytes < 0 || settings.max_upload_bytes < 0 || settings.max_connections < 1 ||
      settings.max_json_depth < 4 || settings.read_timeout_s <= 0 || settings.idle_timeout_s <= 0) {
    return InvalidArgument("the HTTP server's limits must be positive (max_json_depth 4 or more)");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Create(const ServerSettings& settings, const Services& services) {
  return CatchToStatus("make the HTTP server", [&]() -> absl::StatusOr<std::unique_ptr<Server>> {
    TANDEM_RETURN_IF_ERROR(CheckSettings(settings));
    auto server = std::make_unique<ServerImpl>(settings, services);
    TANDEM_RETURN_IF_ERROR(server->Listen(settings.host, settings.port, false));
    TANDEM_RETURN_IF_ERROR(server->Listen(settings.metrics_host, settings.metrics_port, true));
    return std::unique_ptr<Server>(std::move(server));
  });
}

}  // namespace tandem::api::http
