// TensorFlow Serving's table of methods, and the verbs that tell about models.
#include <stdlib.h>

#include "api/grpc/tfserving.h"
#include "api/tfserving/model_info.h"
#include "base/status.h"

namespace tandem::api::rpc {
namespace {

using namespace tensorflow::serving;  // NOLINT(google-build-using-namespace): the messages of this file

void FillInfo(const std::vector<TensorSignature>& tensors,
              google::protobuf::Map<std::string, tensorflow::TensorInfo>* out) {
  for (const TensorSignature& tensor : tensors) {
    tensorflow::TensorInfo& info = (*out)[tensor.name];
    info.set_name(tfs::GraphName(tensor.name));
    info.set_dtype(ToTensorFlow(tensor.dtype));
    for (int64_t dim : tensor.shape) info.mutable_tensor_shape()->add_dim()->set_size(dim);
  }
}

absl::Status GetMetadata(const Context& context, const GetModelMetadataRequest& request,
                         GetModelMetadataResponse* response) {
  TANDEM_ASSIGN_OR_RETURN(std::string version, VersionOf(request.model_spec()));
  for (const std::string& field : request.metadata_field()) {
    if (field != "signature_def") {
      return InvalidArgument("metadata field '", field, "' is unknown; there is 'signature_def'");
    }
  }
  if (request.metadata_field().empty()) return InvalidArgument("'metadata_field' is empty; ask for 'signature_def'");
  TANDEM_ASSIGN_OR_RETURN(auto session, context.services.inference->Open(request.model_spec().name(), version));
  SignatureDefMap map;
  tensorflow::SignatureDef& signature = (*map.mutable_signature_def())[std::string(tfs::kSignature)];
  FillInfo(session->inputs(), signature.mutable_inputs());
  FillInfo(session->outputs(), signature.mutable_outputs());
  signature.set_method_name(std::string(tfs::kPredictMethod));
  (*response->mutable_metadata())["signature_def"].PackFrom(map);
  response->mutable_model_spec()->set_name(session->model());
  response->mutable_model_spec()->mutable_version()->set_value(strtoll(session->version().c_str(), nullptr, 10));
  return absl::OkStatus();
}

absl::Status GetStatus(const Context& context, const GetModelStatusRequest& request, GetModelStatusResponse* response) {
  TANDEM_ASSIGN_OR_RETURN(std::string version, VersionOf(request.model_spec()));
  TANDEM_ASSIGN_OR_RETURN(auto found, tfs::StatusOf(context.services.inference, request.model_spec().name(), version));
  for (const tfs::VersionStatus& from : found) {
    ModelVersionStatus* status = response->add_model_version_status();
    status->set_version(strtoll(from.version.c_str(), nullptr, 10));
    ModelVersionStatus::State state = ModelVersionStatus::UNKNOWN;
    ModelVersionStatus::State_Parse(std::string(from.state), &state);
    status->set_state(state);
    status->mutable_status()->set_error_code(static_cast<int>(from.code));
    status->mutable_status()->set_error_message(from.message);
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<Method> TfServingMethods() {
  using http::Need;
  std::vector<Method> methods = {
      Unary<GetModelMetadataRequest, GetModelMetadataResponse>("/tensorflow.serving.PredictionService/GetModelMetadata",
                                                               Need::kUse, GetMetadata),
      Unary<GetModelStatusRequest, GetModelStatusResponse>("/tensorflow.serving.ModelService/GetModelStatus",
                                                           Need::kUse, GetStatus),
  };
  Method& predict = methods.emplace_back();
  predict.path = "/tensorflow.serving.PredictionService/Predict";
  predict.codec = [] { return std::make_unique<PredictCodec>(); };
  return methods;
}

}  // namespace tandem::api::rpc
