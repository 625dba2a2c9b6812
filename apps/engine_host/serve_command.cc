#include "serve_command.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <memory>
#include <thread>

#include "base/status.h"
#include "engine/arena.h"
#include "engine/packet.h"
#include "engine/run_socket.h"

namespace {

using tandem::AlignedBuffer;
using tandem::StrCat;
using tandem::Tensor;
using tandem::UniqueFd;
using tandem::engine::AlignUp;
using tandem::engine::Arena;
using tandem::engine::Engine;
using tandem::engine::InputView;
using tandem::engine::Instance;
using tandem::engine::LoadedModel;
using tandem::engine::MakeRunTensor;
using tandem::engine::Packet;
using tandem::engine::RunSocket;
using tandem::engine::RunTensor;
namespace wire = tandem::wire;

// CPU time that a thread of the real-time class may use without a wait, as isolation.budget_ms is by default.
constexpr rlim_t kRealtimeMicros = 100'000;

// The server gives instance threads its own class, which may be a real-time one. One that computes for long is no
// longer a matter of latency: it becomes a normal thread, and the rest of the machine goes on.
void LeaveRealtime(int) {
  const int saved = errno;
  sched_param parameters = {};
  sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &parameters);
  rlimit limit = {kRealtimeMicros, RLIM_INFINITY};  // the kernel has raised it by a second
  setrlimit(RLIMIT_RTTIME, &limit);
  errno = saved;
}

void LimitProcess() {
  struct sigaction action = {};
  action.sa_handler = LeaveRealtime;
  action.sa_flags = SA_RESTART;
  sigaction(SIGXCPU, &action, nullptr);
  rlimit realtime = {kRealtimeMicros, RLIM_INFINITY};
  setrlimit(RLIMIT_RTTIME, &realtime);
  // No core file: writing gigabytes comes before the sockets close, and requests wait for those. 1 byte and not 0,
  // which the kernel takes as "no limit" where a program receives the core.
  rlimit core = {};
  getrlimit(RLIMIT_CORE, &core);
  core.rlim_cur = core.rlim_max < 1 ? core.rlim_max : 1;
  setrlimit(RLIMIT_CORE, &core);
}

// Ends this process with the server, also in the middle of a load or of an endless run.
void LeaveWithServer(int control) {
  std::thread([control] {
    pollfd server = {.fd = control};  // its end alone
    while (poll(&server, 1, -1) < 0 && errno == EINTR) {
    }
    _exit(0);
  }).detach();
}

// The class of every thread of this process, those of the engine too.
void SetClass(int policy) {
  std::unique_ptr<DIR, int (*)(DIR*)> tasks(opendir("/proc/self/task"), closedir);
  sched_param parameters = {};
  while (dirent* entry = tasks == nullptr ? nullptr : readdir(tasks.get())) {
    if (entry->d_name[0] != '.') sched_setscheduler(atoi(entry->d_name), policy, &parameters);
  }
}

// One instance, its thread's work, and the thread's end of the conversation.
class InstanceServer {
 public:
  InstanceServer(std::unique_ptr<Instance> instance, UniqueFd socket, Arena arena)
      : instance_(std::move(instance)), socket_(std::move(socket)), arena_(std::move(arena)) {}

  // Until the server frees the instance.
  void Serve() {
    size_t arena_bytes = 0;
    absl::Status ignored;
    while (socket_.Receive(&arena_bytes, &tensors_, &ignored) == RunSocket::Got::kPacket) {
      absl::Status status = tandem::CatchToStatus("run", [&] { return Run(arena_bytes); });
      if (!status.ok()) tensors_.clear();
      if (!socket_.Send(arena_.size(), tensors_, status)) return;
    }
  }

 private:
  absl::Status Run(size_t arena_bytes) {
    TANDEM_RETURN_IF_ERROR(arena_.Map(arena_bytes));
    size_t end = 0;
    for (const RunTensor& tensor : tensors_) {
      TANDEM_RETURN_IF_ERROR(CheckRunTensor(tensor, arena_.size()));
      end = std::max(end, AlignUp(tensor.offset + tensor.byte_size));
    }
    TANDEM_RETURN_IF_ERROR(LendOutputs(&end));
    views_.clear();
    for (const RunTensor& tensor : tensors_) {
      views_.push_back({static_cast<tandem::DType>(tensor.dtype),
                        tandem::Shape(tensor.shape, tensor.shape + tensor.rank), arena_.data() + tensor.offset,
                        tensor.byte_size});
    }
    TANDEM_RETURN_IF_ERROR(instance_->Run(views_, &outputs_));
    return PlaceOutputs(end);
  }

  // Places behind the inputs for outputs as large as they were before, so that the engine writes where the server
  // reads. Moves *end behind them.
  absl::Status LendOutputs(size_t* end) {
    size_t needed = *end;
    for (size_t bytes : largest_) needed += AlignUp(bytes);
    TANDEM_RETURN_IF_ERROR(arena_.Reserve(needed));
    outputs_.resize(largest_.size());
    for (size_t i = 0; i < largest_.size(); ++i) {
      outputs_[i].buffer =
          largest_[i] == 0 ? AlignedBuffer() : AlignedBuffer::Borrow(arena_.data() + *end, largest_[i]);
      *end += AlignUp(largest_[i]);
    }
    return absl::OkStatus();
  }

  // Fills tensors_ with the outputs; those that did not fit into their places go behind `end`.
  absl::Status PlaceOutputs(size_t end) {
    tensors_.clear();
    largest_.resize(outputs_.size(), 0);
    std::vector<size_t> moved;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      const Tensor& output = outputs_[i];
      if (output.shape.size() > RunTensor::kMaxRank) return tandem::Internal("an output has too many dimensions");
      const size_t bytes = output.buffer.size();
      const bool fits = bytes <= largest_[i];
      const size_t offset = fits && bytes > 0 ? output.buffer.data() - arena_.data() : fits ? 0 : end;
      tensors_.push_back(MakeRunTensor(output.dtype, output.shape, offset, bytes));
      if (fits) continue;
      moved.push_back(i);
      end += AlignUp(bytes);
      largest_[i] = bytes;
    }
    if (absl::Status grown = arena_.Reserve(end); !grown.ok()) {
      for (size_t i : moved) largest_[i] = 0;  // else the next run would ask for as much
      return grown;
    }
    for (size_t i : moved) {
      memcpy(arena_.data() + tensors_[i].offset, outputs_[i].buffer.data(), outputs_[i].buffer.size());
    }
    return absl::OkStatus();
  }

  const std::unique_ptr<Instance> instance_;
  RunSocket socket_;
  Arena arena_;
  std::vector<RunTensor> tensors_;
  std::vector<InputView> views_;
  std::vector<Tensor> outputs_;  // their buffers lie in the arena, and are set anew for each run
  std::vector<size_t> largest_;  // bytes, per output
};

absl::Status Reply(int control, const wire::FromHost& message) {
  std::string bytes = message.SerializeAsString();
  if (bytes.size() <= tandem::engine::kMaxPacketBytes) return tandem::engine::SendPacket(control, bytes);
  wire::FromHost failed;
  failed.mutable_failed()->set_code(static_cast<int>(absl::StatusCode::kUnimplemented));
  failed.mutable_failed()->set_error(StrCat("the names of inputs and outputs take ", bytes.size(),
                                            " bytes, too many for a process of its own; set isolation to thread"));
  return tandem::engine::SendPacket(control, failed.SerializeAsString());
}

wire::FromHost FailedMessage(const absl::Status& status) {
  wire::FromHost message;
  message.mutable_failed()->set_code(static_cast<int>(status.code()));
  message.mutable_failed()->set_error(std::string(tandem::MessageOf(status).substr(0, 1 << 14)));
  return message;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const ServeArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(Engine * engine, tandem::engine::OpenEngine(arguments.engine));
  TANDEM_RETURN_IF_ERROR(tandem::engine::ReadPrepared(arguments.folder, *engine, arguments.options).status());
  return engine->Load(arguments.folder, arguments.options);
}

void AddTensors(const std::vector<tandem::TensorSignature>& from,
                google::protobuf::RepeatedPtrField<wire::HostTensor>* to) {
  for (const tandem::TensorSignature& tensor : from) {
    wire::HostTensor* added = to->Add();
    added->set_name(tensor.name);
    added->set_dtype(static_cast<int32_t>(tensor.dtype));
    added->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  }
}

// Makes the instance and starts its thread; gives the thread's number.
absl::StatusOr<int32_t> StartInstance(LoadedModel* model, Packet packet) {
  wire::MakeInstance request;
  if (!request.ParseFromString(packet.bytes) || packet.fds.size() != 2) {
    return tandem::InvalidArgument("the server asked for no instance");
  }
  TANDEM_ASSIGN_OR_RETURN(Arena arena, Arena::Open(std::move(packet.fds[1])));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Instance> instance, model->MakeInstance());
  auto server = std::make_unique<InstanceServer>(std::move(instance), std::move(packet.fds[0]), std::move(arena));
  std::promise<int32_t> tid;
  std::future<int32_t> told = tid.get_future();
  std::thread([tid = std::move(tid), server = std::move(server), number = request.number()]() mutable {
    prctl(PR_SET_NAME, StrCat("instance-", number).c_str(), 0, 0, 0);
    tid.set_value(gettid());
    server->Serve();
  }).detach();
  return told.get();
}

}  // namespace

absl::Status ServeModel(const ServeArguments& arguments) {
  LimitProcess();
  LeaveWithServer(arguments.fd);
  // Loading gives way to requests; nice could not be undone.
  SetClass(SCHED_BATCH);
  absl::StatusOr<std::unique_ptr<LoadedModel>> model =
      tandem::CatchToStatus("loading", [&] { return Load(arguments); });
  SetClass(SCHED_OTHER);
  if (!model.ok()) {
    Reply(arguments.fd, FailedMessage(model.status())).IgnoreError();  // a server that is gone needs no answer
    return model.status();
  }
  wire::FromHost loaded;
  AddTensors((*model)->inputs(), loaded.mutable_loaded()->mutable_inputs());
  AddTensors((*model)->outputs(), loaded.mutable_loaded()->mutable_outputs());
  absl::Status replied = Reply(arguments.fd, loaded);
  while (replied.ok()) {
    absl::StatusOr<Packet> packet = tandem::engine::ReceivePacket(arguments.fd, -1);
    if (!packet.ok()) break;
    wire::FromHost answer;
    absl::StatusOr<int32_t> tid = StartInstance(model->get(), *std::move(packet));
    if (tid.ok()) answer.mutable_made()->set_tid(*tid);
    replied = Reply(arguments.fd, tid.ok() ? answer : FailedMessage(tid.status()));
  }
  // Instances may be in the middle of a run: nothing is taken down under them.
  _exit(0);
}
