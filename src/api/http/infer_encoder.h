#pragma once
// The answer to an infer request: JSON, and the outputs that the client wants as bytes behind it.
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "api/http/infer_decoder.h"

namespace tandem::api::http {

struct InferAnswer {
  std::string json;
  std::vector<Tensor> outputs;
  // The bytes behind the JSON, in order; they point into `outputs`. Empty: the answer is JSON only.
  std::vector<std::string_view> blobs;
  bool binary = false;  // some output is sent as bytes, be they none
};

// InvalidArgument when an output is wanted that the model does not have, before anything ran.
absl::Status CheckWantedOutputs(const InferSession& session, const InferCall& call);

// Writes answer->json and answer->blobs from answer->outputs.
absl::Status EncodeAnswer(const InferSession& session, const InferCall& call, InferAnswer* answer);

}  // namespace tandem::api::http
