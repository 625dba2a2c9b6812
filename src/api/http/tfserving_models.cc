// TensorFlow Serving's REST interface but predict: what models there are, in which state, and what they take.
#include "api/http/handlers.h"
#include "api/http/json_writer.h"
#include "api/tfserving/model_info.h"
#include "base/status.h"
#include "base/strings.h"

namespace tandem::api::http {
namespace {

constexpr std::string_view kVerbs[] = {":classify", ":regress"};

std::string_view VersionOf(const Request& request) {
  return request.Param("version").empty() ? request.Param("label") : request.Param("version");
}

// Numbers are texts, as protobuf writes 64-bit numbers as JSON.
void WriteTensors(std::string_view key, const std::vector<TensorSignature>& tensors, JsonWriter* json) {
  json->Key(key).BeginObject();
  for (const TensorSignature& tensor : tensors) {
    json->Key(tensor.name).BeginObject();
    json->Key("dtype").String(tfs::ElementTypeName(tensor.dtype)).Key("name").String(tfs::GraphName(tensor.name));
    json->Key("tensor_shape").BeginObject().Key("dim").BeginArray();
    for (int64_t dim : tensor.shape) {
      json->BeginObject().Key("size").String(StrCat(dim)).Key("name").String("").EndObject();
    }
    json->EndArray().Key("unknown_rank").Bool(false).EndObject().EndObject();
  }
  json->EndObject();
}

}  // namespace

absl::StatusOr<Reply> TfAlive(const Services&, const Request&) { return JsonReply(R"({"status":"alive"})"); }

// With the key that clients of KServe's first protocol ask the same path for.
absl::StatusOr<Reply> TfModelStatus(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto found, tfs::StatusOf(services.inference, request.Param("model"), VersionOf(request)));
  Reply reply;
  JsonWriter json(&reply.body);
  bool ready = false;
  json.BeginObject().Key("model_version_status").BeginArray();
  for (const tfs::VersionStatus& one : found) {
    ready = ready || one.state == "AVAILABLE";
    json.BeginObject().Key("version").String(one.version).Key("state").String(one.state);
    json.Key("status").BeginObject().Key("error_code").String(StdView(absl::StatusCodeToString(one.code)));
    json.Key("error_message").String(one.message).EndObject().EndObject();
  }
  json.EndArray().Key("name").String(request.Param("model")).Key("ready").Bool(ready).EndObject();
  return reply;
}

absl::StatusOr<Reply> TfModelMetadata(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto session, services.inference->Open(request.Param("model"), VersionOf(request)));
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginObject().Key("model_spec").BeginObject().Key("name").String(session->model());
  json.Key("signature_name").String("").Key("version").String(session->version()).EndObject();
  json.Key("metadata").BeginObject().Key("signature_def").BeginObject().Key("signature_def").BeginObject();
  json.Key(tfs::kSignature).BeginObject();
  WriteTensors("inputs", session->inputs(), &json);
  WriteTensors("outputs", session->outputs(), &json);
  json.Key("method_name").String(tfs::kPredictMethod).EndObject();
  json.EndObject().EndObject().EndObject().EndObject();
  return reply;
}

absl::StatusOr<Reply> TfOtherVerb(const Services&, const Request& request) {
  std::string_view last = VersionOf(request).empty() ? request.Param("model") : VersionOf(request);
  const size_t colon = last.rfind(':');
  const std::string_view verb = colon == last.npos ? "" : last.substr(colon);
  for (std::string_view known : kVerbs) {
    if (verb != known) continue;
    return Unimplemented("'", verb, "' takes tf.Example protos, which are not served here; give the model's inputs to ",
                         "':predict'");
  }
  if (verb.empty()) return NotFound("a POST to a model needs a verb: write ':predict' behind the path");
  return NotFound("there is no verb '", verb, "'; there is ':predict' (and not ':classify', ':regress')");
}

}  // namespace tandem::api::http
