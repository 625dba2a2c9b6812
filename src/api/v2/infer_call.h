#pragma once
// An infer request of Open Inference Protocol v2 after decoding, whatever door it came through, and what is alike for
// all doors: outputs that are wanted, in shared memory or as classes.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "api/service.h"
#include "api/v2/input_data.h"
#include "api/v2/shared_memory.h"
#include "telemetry/trace.h"

namespace tandem::api::v2 {

struct WantedOutput {
  std::string_view name;
  bool binary = false;      // HTTP: as bytes behind the JSON
  int64_t classes = 0;      // > 0: the best so many, as BYTES "value:index[:label]"
  std::string_view region;  // shared memory to write to; "" = in the answer
  size_t offset = 0, byte_size = 0;
  std::byte* destination = nullptr;  // in the region; set by PrepareOutputs
};

// Views point into the door's memory, which lives until the answer was sent. Thread-compatible; neither copied nor
// moved.
struct InferCall {
  InferRequest request;                     // all but owner and deadline_ns
  int64_t timeout_us = 0;                   // 0 = none
  bool binary_output = false;               // where an output does not say
  std::vector<WantedOutput> wanted;         // empty = all
  InputBuffers buffers;                     // of inputs that could not be used where they lay
  std::vector<SharedMemory::Lease> leases;  // of inputs and outputs, dropped by Clear
  std::vector<const Tensor*> answers;       // set by FinishOutputs: in the order of `wanted`, or of the model

  // Ready for another request; keeps memory, and the owner.
  void Clear();
};

// Adds to `wanted`. InvalidArgument for a name that is empty, listed twice, or one more than the model has outputs.
absl::Status AddWanted(const InferSession& session, const WantedOutput& output, InferCall* call);
// Adds an input without data and gives it; the same errors.
absl::StatusOr<InputTensor*> AddInput(const InferSession& session, std::string_view name, DType dtype, InferCall* call);

// Before it runs: InvalidArgument for an output that the model does not have (names the nearest), and request.outputs
// borrow the regions that they go to, so that the engine writes there and nothing is copied. After the inputs.
absl::Status PrepareOutputs(const InferSession& session, const SharedMemory& regions, InferCall* call);
// After it ran: copies into a region what the engine could not write there, replaces outputs that are wanted as
// classes, and sets `answers`. InvalidArgument when a region is too small (names both sizes), or was made shorter while
// it was used.
absl::Status FinishOutputs(const InferSession& session, InferCall* call);

// What is told of a traced request beside what its door knows. `session` null: no such model was found. `started_ns`:
// when it was handed to the session; monotonic.
void Describe(const InferSession* session, const InferRequest& request, const InferTiming& timing, int64_t started_ns,
              RequestTrace* trace);

}  // namespace tandem::api::v2
