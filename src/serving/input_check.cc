#include "serving/input_check.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem::serving {
namespace {

using Input = Request::Input;

std::string Describe(const TensorSignature& tensor) {
  return StrCat("'", tensor.name, "' ", ProtocolName(tensor.dtype), " ", ToString(tensor.shape));
}

// REQUIRES: the names of `inputs` are not those of `signature`, each once.
absl::Status WrongNames(std::string_view what, const std::vector<TensorSignature>& signature,
                        const std::vector<Input>& inputs) {
  std::vector<std::string> names, expected, faults;
  for (const TensorSignature& tensor : signature) {
    names.push_back(tensor.name);
    expected.push_back(Describe(tensor));
    auto count = std::count_if(inputs.begin(), inputs.end(), [&](const auto& in) { return in.name == tensor.name; });
    if (count == 0) faults.push_back(StrCat("input '", tensor.name, "' is missing"));
    if (count > 1) faults.push_back(StrCat("input '", tensor.name, "' is given ", count, " times"));
  }
  for (const Input& input : inputs) {
    if (std::find(names.begin(), names.end(), input.name) != names.end()) continue;
    faults.push_back(StrCat("there is no input '", input.name, "'", DidYouMean(input.name, names)));
  }
  return InvalidArgument(what, ": ", absl::StrJoin(faults, ", "), "; it takes ", absl::StrJoin(expected, ", "));
}

bool Fits(const Shape& shape, const Shape& pattern) {
  return shape.size() == pattern.size() &&
         std::equal(shape.begin(), shape.end(), pattern.begin(),
                    [](int64_t dim, int64_t wanted) { return dim >= 0 && (wanted == -1 || wanted == dim); });
}

absl::Status CheckTensor(std::string_view what, const TensorSignature& wanted, const engine::InputView& got) {
  if (got.dtype != wanted.dtype) {
    return InvalidArgument(what, ": input '", wanted.name, "' is ", ProtocolName(got.dtype), ", must be ",
                           ProtocolName(wanted.dtype));
  }
  if (!Fits(got.shape, wanted.shape)) {
    return InvalidArgument(what, ": input '", wanted.name, "' has shape ", ToString(got.shape), ", must be ",
                           ToString(wanted.shape), " (-1 is any size)");
  }
  if (wanted.dtype == DType::kString) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(got.shape));
  uint64_t element_bytes = ByteSize(wanted.dtype);
  if (got.byte_size / element_bytes == static_cast<uint64_t>(elements) && got.byte_size % element_bytes == 0) {
    return absl::OkStatus();
  }
  return InvalidArgument(what, ": input '", wanted.name, "' has ", got.byte_size, " bytes, but shape ",
                         ToString(got.shape), " of ", ProtocolName(wanted.dtype), " is ", elements, " elements of ",
                         element_bytes, " bytes");
}

}  // namespace

absl::Status CheckInputs(std::string_view what, const std::vector<TensorSignature>& signature,
                         std::vector<Input>* inputs) {
  if (inputs->size() != signature.size()) return WrongNames(what, signature, *inputs);
  for (size_t i = 0; i < signature.size(); ++i) {
    // Most clients send inputs in the model's order.
    size_t at = i;
    while (at < inputs->size() && (*inputs)[at].name != signature[i].name) ++at;
    if (at == inputs->size()) return WrongNames(what, signature, *inputs);
    if (at != i) std::swap((*inputs)[at], (*inputs)[i]);
    TANDEM_RETURN_IF_ERROR(CheckTensor(what, signature[i], (*inputs)[i].view));
  }
  return absl::OkStatus();
}

absl::Status CheckRows(std::string_view what, const std::vector<Input>& inputs) {
  for (const Input& input : inputs) {
    if (input.view.shape[0] == inputs[0].view.shape[0]) continue;
    return InvalidArgument(what, ": input '", input.name, "' has ", input.view.shape[0],
                           " rows (its first dimension), ", "input '", inputs[0].name, "' has ",
                           inputs[0].view.shape[0], "; all must have the same");
  }
  return absl::OkStatus();
}

}  // namespace tandem::serving
