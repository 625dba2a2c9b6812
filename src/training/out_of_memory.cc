#include "training/out_of_memory.h"

#include <string>

#include "base/status.h"

namespace tandem::training {

absl::Status ExplainOutOfMemory(const absl::Status& status) {
  // Of a node of the graph: InvalidArgument.
  if (!absl::IsInternal(status) && !absl::IsInvalidArgument(status)) return status;
  const std::string message(MessageOf(status));
  constexpr std::string_view kTorch = "you tried to allocate ";
  std::string what;
  if (size_t at = message.find(kTorch); at != std::string::npos) {
    const size_t begin = at + kTorch.size(), end = message.find(' ', begin);
    what = StrCat("an allocation of ", message.substr(begin, end - begin), " bytes failed");
  } else if (message.find("bad_alloc") != std::string::npos) {
    what = "an allocation failed";
  } else {
    return status;
  }
  return FailedPrecondition("out of memory: ", what, "; lower batch or micro_batch, or raise resources.memory");
}

}  // namespace tandem::training
