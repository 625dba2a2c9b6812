#pragma once
// The answer to an infer request: JSON, and the outputs that the client wants as bytes behind it.
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "api/service.h"
#include "api/v2/infer_call.h"

namespace tandem::api::http {

struct InferAnswer {
  std::string json;
  // The bytes behind the JSON, in order; they point into the call's outputs. Empty: the answer is JSON only.
  std::vector<std::string_view> blobs;
  bool binary = false;  // some output is sent as bytes, be they none
};

// Writes the answer from call.answers, which v2::FinishOutputs set.
absl::Status EncodeAnswer(const InferSession& session, const v2::InferCall& call, InferAnswer* answer);

}  // namespace tandem::api::http
