#pragma once
// The doors that clients come through, on the addresses of the settings.
#include <memory>
#include <string>

#include "api/grpc/server.h"
#include "api/http/server.h"
#include "api/service.h"
#include "api/v2/shared_memory.h"
#include "base/paced_writer.h"
#include "daemon/paths.h"
#include "isolation/isolation.h"
#include "spec/settings.h"

namespace tandem::daemon {

// Of what comes in through the doors; null = as fast as the disk.
struct UploadPaces {
  PacedWriter* models = nullptr;
  PacedWriter* datasets = nullptr;
};

// Thread-compatible.
class Doors {
 public:
  // Binds all ports. `services` without regions, which are its own; what they and `paces` point to, and `isolation`,
  // outlive it.
  static absl::StatusOr<std::unique_ptr<Doors>> Create(const spec::Settings& settings, const Paths& paths,
                                                       api::Services services, isolation::Isolation* isolation,
                                                       const UploadPaces& paces, int io_threads);

  absl::Status Start();
  // Takes no more requests, answers those in flight within drain_s.
  void Stop(double drain_s);

  std::string http_address() const { return http_->http_address(); }
  std::string grpc_address() const { return grpc_->address(); }
  std::string metrics_address() const { return http_->metrics_address(); }

 private:
  Doors() = default;

  api::v2::SharedMemory regions_;  // one name space for both doors
  std::unique_ptr<api::http::Server> http_;
  std::unique_ptr<api::rpc::Server> grpc_;
};

}  // namespace tandem::daemon
