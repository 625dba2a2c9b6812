#pragma once
// A request's inputs against a model's signature.
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "serving/serving.h"

namespace tandem::serving {

// InvalidArgument names every missing, unknown and repeated input, or the first of wrong type, shape or size, and what
// was expected. `what` begins the messages ("model 'x'").
absl::Status CheckInputs(std::string_view what, const std::vector<TensorSignature>& signature,
                         const std::vector<LoadedVersion::NamedInput>& inputs);

// Puts the views into signature order. REQUIRES: CheckInputs was OK. Keeps the memory of `ordered`.
void OrderInputs(const std::vector<TensorSignature>& signature, const std::vector<LoadedVersion::NamedInput>& inputs,
                 std::vector<engine::InputView>* ordered);

}  // namespace tandem::serving
