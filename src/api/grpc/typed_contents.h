#pragma once
// InferTensorContents: tensors as repeated numbers.
#include "absl/status/status.h"
#include "api/service.h"
#include "api/v2/input_data.h"
#include "inference.pb.h"

namespace tandem::api::rpc {

// Converts to memory of the tensor's dtype and points the tensor to it. InvalidArgument when there are not as many
// elements as its shape says in the one field that its dtype has, or one of them does not fit.
absl::Status UseContents(const inference::InferTensorContents& contents, v2::InputBuffers* buffers,
                         InputTensor* tensor);

}  // namespace tandem::api::rpc
