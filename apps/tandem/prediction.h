#pragma once
// From an image or JSON to a model's input, and from its output to classes.
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "client/client.h"

namespace tandem::cli {

// Channels, height and width that an image needs for this input; 0 = as the file. A flat input of F features takes
// square images: grey where F is a square number, else colour.
struct ImageSize {
  int64_t channels = 0, height = 0, width = 0;
};
absl::StatusOr<ImageSize> ImageSizeFor(const TensorSignature& input);

// The input tensor of one sample, floats 0..1 (0..255 for integer inputs of 8 bits).
absl::StatusOr<Tensor> ImageTensor(std::string_view image, const TensorSignature& input);

// The request's JSON: an object with "inputs" is one already; a number list (nested or not) becomes the data of the
// model's only input, with the batch dimension added where it lacks.
absl::StatusOr<std::string> InferRequestJson(std::string_view text, const client::Inference::Metadata& model);

// The values themselves where they are probabilities already (none negative, sum 1), else their softmax.
std::vector<double> Probabilities(const std::vector<double>& values);

struct ClassScore {
  int64_t number = 0;
  double probability = 0;
};
// The `count` most probable, best first; ties by number.
std::vector<ClassScore> TopClasses(const std::vector<double>& probabilities, size_t count);

// A float tensor's values as doubles. InvalidArgument for other types.
absl::StatusOr<std::vector<double>> FloatValues(const Tensor& tensor);

}  // namespace tandem::cli
