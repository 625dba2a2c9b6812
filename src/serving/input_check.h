#pragma once
// A request's inputs against a model's signature.
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "serving/serving.h"

namespace tandem::serving {

// InvalidArgument names every missing, unknown and repeated input, or the first of wrong type, shape or size, and what
// was expected. `what` begins the messages ("model 'x'"). Puts the inputs into the order of the signature.
absl::Status CheckInputs(std::string_view what, const std::vector<TensorSignature>& signature,
                         std::vector<Request::Input>* inputs);

// InvalidArgument unless all have the same first dimension. REQUIRES: CheckInputs was OK; each has one.
absl::Status CheckRows(std::string_view what, const std::vector<Request::Input>& inputs);

}  // namespace tandem::serving
