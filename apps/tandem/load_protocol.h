#pragma once
// The pure parts of the load client: when requests are sent, what they say, how answers are recognised.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace tandem::cli {

struct Arrivals {
  std::vector<int64_t> offsets;  // nanoseconds from the start, rising
  size_t lead_in = 0;            // the first so many are sent, but not counted
};
// A Poisson process of `rate` requests per second: those within lead_in_s, then `counted` more. The same seed gives the
// same arrivals, so that two sides that are compared get the same load.
Arrivals PoissonArrivals(double rate, double lead_in_s, int64_t counted, uint64_t seed);

// One input for each signature, of batch 1 (any dimension that is open becomes 1): floats in [0, 1) that the seed
// fixes, zeros of any other type. Unimplemented for strings.
absl::StatusOr<std::vector<Tensor>> MadeUpInputs(const std::vector<TensorSignature>& signatures, uint64_t seed);

// A whole inference request (Open Inference Protocol v2, tensors as raw bytes both ways) for a kept connection.
std::string InferRequest(std::string_view host, std::string_view model, const std::vector<Tensor>& inputs);

struct AnswerHead {
  int code = 0;
  size_t total = 0;    // bytes of head and body
  bool close = false;  // the server closes the connection behind it
};
// Nothing while the head is not whole. InvalidArgument if it is no HTTP/1.1 answer with a Content-Length.
absl::StatusOr<std::optional<AnswerHead>> ParseAnswerHead(std::string_view received);

}  // namespace tandem::cli
