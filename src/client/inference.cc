#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/status.h"
#include "client/client.h"
#include "nlohmann/json.hpp"

namespace tandem::client {
namespace {

using nlohmann::json;

constexpr std::string_view kLengthHeader = "Inference-Header-Content-Length";

std::string VersionPath(std::string_view model, std::string_view version) {
  std::string path = "/v2/models/" + EncodeUrl(model);
  if (!version.empty()) StrAppend(&path, "/versions/", EncodeUrl(version));
  return path;
}

absl::StatusOr<HttpResponse> Ask(Transport* transport, const HttpRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(HttpResponse response, transport->Call(request));
  TANDEM_RETURN_IF_ERROR(CheckAnswer(request, response));
  return response;
}

// The fields are read by nlohmann's checked accessors; what they throw names the field.
TensorSignature ReadSignature(const json& entry) {
  return {.name = entry.at("name").get<std::string>(),
          .dtype = DTypeFromProtocolName(entry.at("datatype").get<std::string>()),
          .shape = entry.at("shape").get<Shape>()};
}

std::string JsonHead(const std::vector<Tensor>& inputs) {
  json head = {{"parameters", {{"binary_data_output", true}}}, {"inputs", json::array()}};
  for (const Tensor& input : inputs) {
    head["inputs"].push_back({{"name", input.name},
                              {"shape", input.shape},
                              {"datatype", std::string(ProtocolName(input.dtype))},
                              {"parameters", {{"binary_data_size", input.buffer.size()}}}});
  }
  return head.dump();
}

// The JSON part's length; the whole body where the header is absent.
size_t JsonLength(const HttpResponse& response) {
  for (const auto& [name, value] : response.headers) {
    uint64_t length = 0;
    if (absl::EqualsIgnoreCase(name, AbslView(kLengthHeader)) && absl::SimpleAtoi(value, &length)) {
      return std::min<uint64_t>(length, response.body.size());
    }
  }
  return response.body.size();
}

absl::StatusOr<Tensor> TakeTensor(const json& entry, std::string_view* binary) {
  TensorSignature signature = ReadSignature(entry);
  Tensor tensor{.name = signature.name, .dtype = signature.dtype, .shape = signature.shape, .buffer = {}};
  if (!entry.contains("parameters") || !entry["parameters"].contains("binary_data_size")) {
    return Unimplemented("output '", tensor.name, "' came as JSON data though raw bytes were asked for");
  }
  size_t size = entry["parameters"]["binary_data_size"].get<size_t>();
  TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(tensor.shape));
  bool fits = tensor.dtype == DType::kString || size == static_cast<size_t>(count) * ByteSize(tensor.dtype);
  if (size > binary->size() || !fits) {
    return Internal("output '", tensor.name, "' of shape ", ToString(tensor.shape), " says it has ", size,
                    " bytes, which neither fits its type nor the ", binary->size(), " bytes of the answer");
  }
  tensor.buffer.Resize(size);
  std::memcpy(tensor.buffer.data(), binary->data(), size);
  binary->remove_prefix(size);
  return tensor;
}

absl::StatusOr<Inference::Answer> ReadAnswer(const HttpResponse& response) {
  size_t length = JsonLength(response);
  json head = json::parse(response.body.substr(0, length));
  std::string_view binary = std::string_view(response.body).substr(length);
  Inference::Answer answer;
  answer.model = head.value("model_name", "");
  answer.version = head.value("model_version", "");
  for (const json& entry : head.at("outputs")) {
    TANDEM_ASSIGN_OR_RETURN(Tensor tensor, TakeTensor(entry, &binary));
    answer.outputs.push_back(std::move(tensor));
  }
  return answer;
}

}  // namespace

absl::StatusOr<Inference::Metadata> Inference::Describe(std::string_view model, std::string_view version,
                                                        Deadline deadline) {
  HttpRequest request{.target = VersionPath(model, version), .timeout_s = deadline.seconds};
  TANDEM_ASSIGN_OR_RETURN(HttpResponse response, Ask(transport_, request));
  return CatchToStatus("the server's model metadata", [&]() -> absl::StatusOr<Metadata> {
    json body = json::parse(response.body);
    Metadata metadata;
    metadata.name = body.at("name").get<std::string>();
    metadata.platform = body.value("platform", "");
    metadata.versions = body.value("versions", std::vector<std::string>());
    for (const json& entry : body.at("inputs")) metadata.inputs.push_back(ReadSignature(entry));
    for (const json& entry : body.at("outputs")) metadata.outputs.push_back(ReadSignature(entry));
    return metadata;
  });
}

absl::StatusOr<Inference::Answer> Inference::Infer(std::string_view model, std::string_view version,
                                                   const std::vector<Tensor>& inputs, Deadline deadline) {
  HttpRequest request{.method = "POST",
                      .target = VersionPath(model, version) + "/infer",
                      .content_type = "application/octet-stream",
                      .body = JsonHead(inputs),
                      .timeout_s = deadline.seconds};
  request.headers.emplace_back(kLengthHeader, StrCat(request.body.size()));
  for (const Tensor& input : inputs) request.body += input.bytes();
  TANDEM_ASSIGN_OR_RETURN(HttpResponse response, Ask(transport_, request));
  return CatchToStatus("the server's inference answer", [&] { return ReadAnswer(response); });
}

absl::StatusOr<std::string> Inference::InferJson(std::string_view model, std::string_view version, std::string request,
                                                 Deadline deadline) {
  TANDEM_ASSIGN_OR_RETURN(HttpResponse response, Ask(transport_, {.method = "POST",
                                                                  .target = VersionPath(model, version) + "/infer",
                                                                  .body = std::move(request),
                                                                  .timeout_s = deadline.seconds}));
  return std::move(response.body);
}

}  // namespace tandem::client
