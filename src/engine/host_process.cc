#include "engine/host_process.h"

#include "base/status.h"
#include "base/text.h"
#include "engine/executable.h"
#include "engine/packet.h"

namespace tandem::engine {
namespace {

constexpr int kEndMillis = 5000;

std::vector<std::string> Arguments(const RemoteOptions& options) {
  return {(ExecutableFolder() / "tandem-engine-host").string(),
          "serve",
          "--engine",
          options.engine,
          "--folder",
          options.folder.string(),
          "--precision",
          options.options.precision,
          "--device",
          options.options.device,
          "--threads",
          StrCat(options.options.threads),
          "--fd",
          StrCat(kServiceSocket)};
}

std::vector<TensorSignature> ReadSignature(const google::protobuf::RepeatedPtrField<wire::HostTensor>& from) {
  std::vector<TensorSignature> tensors;
  for (const wire::HostTensor& tensor : from) {
    tensors.push_back(
        {tensor.name(), static_cast<DType>(tensor.dtype()), Shape(tensor.shape().begin(), tensor.shape().end())});
  }
  return tensors;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HostProcess>> HostProcess::Start(const RemoteOptions& options, int stop_fd) {
  TANDEM_ASSIGN_OR_RETURN(auto sockets, MakePacketPair());
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Service> service, options.spawn(Arguments(options), sockets.second.get()));
  sockets.second.Reset();
  std::unique_ptr<HostProcess> host(new HostProcess(std::move(service), std::move(sockets.first), options.cpu));
  TANDEM_ASSIGN_OR_RETURN(wire::FromHost first, host->Receive(options, "loading", stop_fd));
  if (!first.has_loaded()) return Internal(options.what, ": the engine's process answered something else to a load");
  host->inputs_ = ReadSignature(first.loaded().inputs());
  host->outputs_ = ReadSignature(first.loaded().outputs());
  if (std::max(host->inputs_.size(), host->outputs_.size()) > kMaxRunTensors) {
    return Unimplemented(options.what, " has ", host->inputs_.size(), " inputs and ", host->outputs_.size(),
                         " outputs; in a process of its own up to ", kMaxRunTensors,
                         " of each work; set isolation to thread");
  }
  host->cpu_->Begin(host->service_->pid());
  return host;
}

HostProcess::~HostProcess() { cpu_->End(service_->pid()); }

void HostProcess::StartRequests(const RunLink& link) {
  service_->EnterLatencyClass(link.thread());
  cpu_->StartRequests(service_->pid(), link.thread());
}

absl::StatusOr<std::unique_ptr<RunLink>> HostProcess::MakeLink(const RemoteOptions& options, int stop_fd) {
  TANDEM_ASSIGN_OR_RETURN(auto sockets, MakePacketPair());
  TANDEM_ASSIGN_OR_RETURN(Arena arena, Arena::Create());
  wire::MakeInstance request;
  request.set_number(++made_);
  std::string bytes = request.SerializeAsString();
  absl::Status sent = SendPacket(control_.get(), bytes, {sockets.second.get(), arena.fd()});
  sockets.second.Reset();
  // A peer that is gone is seen, and described, by Receive.
  if (!sent.ok() && !absl::IsUnavailable(sent)) return sent;
  TANDEM_ASSIGN_OR_RETURN(wire::FromHost answer, Receive(options, "making an instance", stop_fd));
  if (!answer.has_made()) return Internal(options.what, ": the engine's process answered something else");
  cpu_->AddThread(service_->pid(), answer.made().tid());
  return RunLink::Create(RunSocket(std::move(sockets.first)), std::move(arena), service_->pidfd(), answer.made().tid(),
                         options.run_timeout_s);
}

absl::StatusOr<wire::FromHost> HostProcess::Receive(const RemoteOptions& options, std::string_view doing, int stop_fd) {
  const int timeout_ms = static_cast<int>(std::min(options.load_timeout_s * 1000, 2e9));
  absl::StatusOr<Packet> packet = ReceivePacket(control_.get(), timeout_ms, stop_fd);
  if (absl::IsDeadlineExceeded(packet.status())) {
    service_->Kill();
    return DeadlineExceeded(options.what, ": ", doing, " in engine '", options.engine, "' took longer than ",
                            HumanSeconds(options.load_timeout_s), " and was stopped");
  }
  if (absl::IsUnavailable(packet.status())) {
    return Internal(options.what, ": while ", doing, ", the process of engine '", options.engine, "' ",
                    Describe(AwaitEnding(service_->pidfd(), kEndMillis)));
  }
  if (!packet.ok()) return Annotate(packet.status(), options.what);
  wire::FromHost message;
  if (!message.ParseFromString(packet->bytes)) return Internal(options.what, ": the engine's process sent nonsense");
  if (!message.has_failed()) return message;
  // OK, which is no failure, and what is no code at all: the child may be out of its mind.
  const int code = message.failed().code();
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kInternal,
                      message.failed().error());
}

}  // namespace tandem::engine
