#pragma once
// The answer to a predict request of TensorFlow Serving's REST interface.
#include "absl/status/status.h"
#include "api/http/infer_encoder.h"
#include "api/v2/infer_call.h"

namespace tandem::api::http {

// Writes call.answers: {"predictions": a list of rows} or {"outputs": whole tensors}; an object by name where the model
// has several outputs. Texts of outputs whose name ends with "_bytes", and what is not UTF-8, become {"b64": ..}.
// InvalidArgument for what cannot be written so: types that JSON cannot hold, rows of outputs that do not have equally
// many.
absl::Status EncodeTfServing(const v2::InferCall& call, bool in_rows, InferAnswer* answer);

}  // namespace tandem::api::http
