#include "tandem/load_protocol.h"

#include <cmath>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "data/dataset.h"
#include "nlohmann/json.hpp"

namespace tandem::cli {

Arrivals PoissonArrivals(double rate, double lead_in_s, int64_t counted, uint64_t seed) {
  Arrivals arrivals;
  arrivals.offsets.reserve(static_cast<size_t>(rate * lead_in_s * 1.2) + counted + 16);
  data::RandomStream random(seed, data::Purpose::kShuffle, 1);
  double seconds = 0;
  while (arrivals.offsets.size() < arrivals.lead_in + static_cast<size_t>(counted)) {
    seconds += -std::log(1 - random.Uniform()) / rate;
    arrivals.offsets.push_back(static_cast<int64_t>(seconds * 1e9));
    if (seconds < lead_in_s) arrivals.lead_in = arrivals.offsets.size();
  }
  return arrivals;
}

absl::StatusOr<std::vector<Tensor>> MadeUpInputs(const std::vector<TensorSignature>& signatures, uint64_t seed) {
  data::RandomStream random(seed, data::Purpose::kShuffle, 2);
  std::vector<Tensor> tensors;
  for (const TensorSignature& signature : signatures) {
    Tensor tensor{.name = signature.name, .dtype = signature.dtype, .shape = signature.shape, .buffer = {}};
    for (int64_t& dimension : tensor.shape) dimension = dimension < 0 ? 1 : dimension;
    if (ByteSize(tensor.dtype) == 0) {
      return Unimplemented("input '", tensor.name, "' is of type ", ProtocolName(tensor.dtype),
                           ": only numbers can be made up");
    }
    TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(tensor.shape));
    tensor.buffer.Resize(elements * ByteSize(tensor.dtype));
    std::memset(tensor.buffer.data(), 0, tensor.buffer.size());
    if (tensor.dtype == DType::kFloat32) {
      for (int64_t i = 0; i < elements; ++i) tensor.As<float>()[i] = static_cast<float>(random.Uniform());
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::string InferRequest(std::string_view host, std::string_view model, const std::vector<Tensor>& inputs) {
  nlohmann::json head = {{"parameters", {{"binary_data_output", true}}}, {"inputs", nlohmann::json::array()}};
  size_t bytes = 0;
  for (const Tensor& input : inputs) {
    head["inputs"].push_back({{"name", input.name},
                              {"shape", input.shape},
                              {"datatype", std::string(ProtocolName(input.dtype))},
                              {"parameters", {{"binary_data_size", input.buffer.size()}}}});
    bytes += input.buffer.size();
  }
  std::string json = head.dump();
  std::string request =
      StrCat("POST /v2/models/", client::EncodeUrl(model), "/infer HTTP/1.1\r\nHost: ", host,
             "\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: ", json.size(),
             "\r\nContent-Length: ", json.size() + bytes, "\r\n\r\n", json);
  for (const Tensor& input : inputs) request += input.bytes();
  return request;
}

absl::StatusOr<std::optional<AnswerHead>> ParseAnswerHead(std::string_view received) {
  size_t end = received.find("\r\n\r\n");
  if (end == received.npos) {
    constexpr size_t kLargestHead = 64 << 10;
    if (received.size() > kLargestHead) return InvalidArgument("the answer's head does not end");
    return std::nullopt;
  }
  std::string_view head = received.substr(0, end + 2);
  AnswerHead answer;
  if (!head.starts_with("HTTP/1.1 ") || !absl::SimpleAtoi(AbslView(head.substr(9, 3)), &answer.code)) {
    return InvalidArgument("the answer is no HTTP/1.1: '", head.substr(0, 20), "'");
  }
  std::optional<uint64_t> length;
  while (!head.empty()) {
    absl::string_view line = AbslView(head.substr(0, head.find("\r\n")));
    head.remove_prefix(line.size() + 2);
    uint64_t value = 0;
    if (absl::StartsWithIgnoreCase(line, "Content-Length:") && absl::SimpleAtoi(line.substr(15), &value)) {
      length = value;
    }
    if (absl::StartsWithIgnoreCase(line, "Connection:")) answer.close = absl::EndsWithIgnoreCase(line, "close");
  }
  if (!length) return InvalidArgument("the answer has no Content-Length");
  answer.total = end + 4 + *length;
  return answer;
}

}  // namespace tandem::cli
