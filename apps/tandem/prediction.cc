#include "tandem/prediction.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/status.h"
#include "data/dataset.h"
#include "nlohmann/json.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;

int64_t SquareRoot(int64_t value) {
  int64_t root = std::llround(std::sqrt(static_cast<double>(std::max<int64_t>(value, 0))));
  return root * root == value ? root : 0;
}

// The shape of a nested list by its first elements; the server checks the rest.
Shape NestedShape(const json& value) {
  Shape shape;
  for (const json* at = &value; at->is_array(); at = &at->front()) {
    shape.push_back(static_cast<int64_t>(at->size()));
    if (at->empty()) break;
  }
  return shape;
}

}  // namespace

absl::StatusOr<ImageSize> ImageSizeFor(const TensorSignature& input) {
  const Shape& shape = input.shape;
  auto known = [](int64_t dimension) { return std::max<int64_t>(dimension, 0); };
  if (shape.size() == 4) return ImageSize{known(shape[1]), known(shape[2]), known(shape[3])};
  if (shape.size() == 3) return ImageSize{known(shape[0]), known(shape[1]), known(shape[2])};
  if (shape.size() == 2 || shape.size() == 1) {
    int64_t features = shape.back();
    if (int64_t side = SquareRoot(features); side > 0) return ImageSize{1, side, side};
    if (int64_t side = SquareRoot(features / 3); side > 0 && features % 3 == 0) return ImageSize{3, side, side};
  }
  return InvalidArgument("input '", input.name, "' of shape ", ToString(shape),
                         " does not take an image; send its values with --json-input FILE");
}

absl::StatusOr<Tensor> ImageTensor(std::string_view image, const TensorSignature& input) {
  TANDEM_ASSIGN_OR_RETURN(ImageSize size, ImageSizeFor(input));
  TANDEM_ASSIGN_OR_RETURN(data::Image decoded, data::DecodeImage(image, size.channels, size.height, size.width));
  Tensor tensor{.name = input.name, .dtype = input.dtype, .shape = {}, .buffer = {}};
  if (input.shape.size() >= 3) {
    tensor.shape = decoded.shape;
  } else {
    tensor.shape = {static_cast<int64_t>(decoded.pixels.size())};
  }
  if (input.shape.size() % 2 == 0) tensor.shape.insert(tensor.shape.begin(), 1);  // [N,C,H,W] and [N,F]
  tensor.buffer.Resize(decoded.pixels.size() * ByteSize(input.dtype));
  if (input.dtype == DType::kFloat32) {
    std::memcpy(tensor.buffer.data(), decoded.pixels.data(), tensor.buffer.size());
  } else if (input.dtype == DType::kUint8) {
    std::transform(decoded.pixels.begin(), decoded.pixels.end(), tensor.As<uint8_t>(),
                   [](float pixel) { return static_cast<uint8_t>(std::lround(std::clamp(pixel, 0.0f, 1.0f) * 255)); });
  } else {
    return InvalidArgument("input '", input.name, "' is ", ProtocolName(input.dtype),
                           "; images go to FP32 and UINT8 inputs: send its values with --json-input FILE");
  }
  return tensor;
}

absl::StatusOr<std::string> InferRequestJson(std::string_view text, const client::Inference::Metadata& model) {
  json body = json::parse(text, nullptr, false);
  if (body.is_object() && body.contains("inputs")) return std::string(text);
  if (!body.is_array() || body.empty()) {
    return InvalidArgument("not JSON of an inference request ({\"inputs\": [...]}) or of a list of numbers");
  }
  if (model.inputs.size() != 1) {
    return InvalidArgument(
        "model '", model.name, "' has ", model.inputs.size(),
        " inputs: send a whole request, {\"inputs\": [{\"name\", \"shape\", \"datatype\", \"data\"}, ...]}");
  }
  const TensorSignature& input = model.inputs[0];
  Shape shape = NestedShape(body);
  if (shape.size() + 1 == input.shape.size()) shape.insert(shape.begin(), 1);
  json request = {{"inputs",
                   {{{"name", input.name},
                     {"shape", shape},
                     {"datatype", std::string(ProtocolName(input.dtype))},
                     {"data", std::move(body)}}}}};
  return request.dump();
}

std::vector<double> Probabilities(const std::vector<double>& values) {
  if (values.empty()) return {};
  double sum = std::accumulate(values.begin(), values.end(), 0.0);
  bool negative = std::any_of(values.begin(), values.end(), [](double value) { return value < 0; });
  if (!negative && std::abs(sum - 1) < 1e-3) return values;
  double top = *std::max_element(values.begin(), values.end());
  std::vector<double> out;
  for (double value : values) out.push_back(std::exp(value - top));
  double total = std::accumulate(out.begin(), out.end(), 0.0);
  for (double& value : out) value /= total;
  return out;
}

std::vector<ClassScore> TopClasses(const std::vector<double>& probabilities, size_t count) {
  std::vector<ClassScore> scores;
  for (size_t i = 0; i < probabilities.size(); ++i) scores.push_back({static_cast<int64_t>(i), probabilities[i]});
  std::stable_sort(scores.begin(), scores.end(),
                   [](const ClassScore& a, const ClassScore& b) { return a.probability > b.probability; });
  scores.resize(std::min(count, scores.size()));
  return scores;
}

absl::StatusOr<std::vector<double>> FloatValues(const Tensor& tensor) {
  TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(tensor.shape));
  if (tensor.dtype == DType::kFloat32) return std::vector<double>(tensor.As<float>(), tensor.As<float>() + count);
  if (tensor.dtype == DType::kFloat64) return std::vector<double>(tensor.As<double>(), tensor.As<double>() + count);
  return InvalidArgument("output '", tensor.name, "' is ", ProtocolName(tensor.dtype),
                         ", not a list of class scores; use --json-input to see the whole answer");
}

}  // namespace tandem::cli
