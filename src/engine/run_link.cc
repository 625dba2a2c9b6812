#include "engine/run_link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"

namespace tandem::engine {

absl::StatusOr<std::unique_ptr<RunLink>> RunLink::Create(RunSocket socket, Arena arena, int pidfd, pid_t thread,
                                                         double timeout_s) {
  TANDEM_RETURN_IF_ERROR(socket.SetTimeout(timeout_s));
  UniqueFd copy(fcntl(pidfd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return ErrnoStatus(errno, "copy a process descriptor");
  return std::unique_ptr<RunLink>(new RunLink(std::move(socket), std::move(arena), std::move(copy), thread));
}

RunLink::Result RunLink::Run(const std::vector<InputView>& inputs, const std::vector<TensorSignature>& signature,
                             std::vector<Tensor>* outputs) {
  if (absl::Status put = PutInputs(inputs); !put.ok()) return {End::kAnswered, put};
  if (!socket_.Send(arena_.size(), tensors_)) return {End::kGone};
  size_t arena_bytes = 0;
  absl::Status status;
  switch (socket_.Receive(&arena_bytes, &tensors_, &status)) {
    case RunSocket::Got::kEnd:
      return {End::kGone};
    case RunSocket::Got::kTimeout:
      return {End::kLate};
    case RunSocket::Got::kNonsense:
      return {End::kNonsense, InvalidArgument("a packet that is no answer")};
    case RunSocket::Got::kPacket:
      break;
  }
  if (!status.ok()) return {End::kAnswered, status};
  status = TakeOutputs(arena_bytes, signature, outputs);
  // Memory that is short is this process's trouble, all else means that the child is out of its mind.
  return {status.ok() || absl::IsResourceExhausted(status) ? End::kAnswered : End::kNonsense, status};
}

void RunLink::Kill() const { syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0); }

absl::Status RunLink::PutInputs(const std::vector<InputView>& inputs) {
  tensors_.clear();
  size_t end = 0;
  for (const InputView& input : inputs) {
    if (input.shape.size() > RunTensor::kMaxRank) {
      return InvalidArgument("an input has ", input.shape.size(), " dimensions, at most ", RunTensor::kMaxRank,
                             " work");
    }
    tensors_.push_back(MakeRunTensor(input.dtype, input.shape, end, input.byte_size));
    end = AlignUp(end + input.byte_size);
  }
  TANDEM_RETURN_IF_ERROR(arena_.Reserve(end));
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].byte_size > 0) memcpy(arena_.data() + tensors_[i].offset, inputs[i].data, inputs[i].byte_size);
  }
  return absl::OkStatus();
}

absl::Status RunLink::TakeOutputs(size_t arena_bytes, const std::vector<TensorSignature>& signature,
                                  std::vector<Tensor>* outputs) {
  if (tensors_.size() != signature.size()) {
    return InvalidArgument(tensors_.size(), " outputs of ", signature.size());
  }
  TANDEM_RETURN_IF_ERROR(arena_.Map(arena_bytes));
  outputs->resize(signature.size());
  for (size_t i = 0; i < signature.size(); ++i) {
    const RunTensor& from = tensors_[i];
    TANDEM_RETURN_IF_ERROR(Annotate(CheckRunTensor(from, arena_.size()), StrCat("output '", signature[i].name, "'")));
    Tensor& tensor = (*outputs)[i];
    if (tensor.name != signature[i].name) tensor.name = signature[i].name;
    tensor.dtype = static_cast<DType>(from.dtype);
    tensor.shape.assign(from.shape, from.shape + from.rank);
    try {
      tensor.buffer.Resize(from.byte_size);
    } catch (const std::bad_alloc&) {
      return ResourceExhausted("no memory for the ", from.byte_size, " bytes of output '", signature[i].name, "'");
    }
    if (from.byte_size > 0) memcpy(tensor.buffer.data(), arena_.data() + from.offset, from.byte_size);
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
