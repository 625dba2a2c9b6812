#include <stdlib.h>

#include "api/grpc/bytes.h"
#include "api/grpc/tfserving.h"
#include "api/tfserving/model_info.h"
#include "base/status.h"
#include "google/protobuf/wrappers.pb.h"

namespace tandem::api::rpc {

absl::StatusOr<std::string> VersionOf(const tensorflow::serving::ModelSpec& spec) {
  if (spec.name().empty()) return InvalidArgument("the request has no 'model_spec.name'");
  TANDEM_RETURN_IF_ERROR(tfs::CheckSignature(spec.name(), spec.signature_name()));
  if (spec.has_version()) return StrCat(spec.version().value());
  return spec.version_label();
}

absl::Status PredictCodec::Parse(::grpc::ByteBuffer* message, v2::InferCall*) {
  request_.Clear();
  bytes_ = message->Length();
  TANDEM_RETURN_IF_ERROR(ParseMessage(message, &request_));
  TANDEM_ASSIGN_OR_RETURN(version_, VersionOf(request_.model_spec()));
  return absl::OkStatus();
}

absl::Status PredictCodec::Decode(const InferSession& session, const v2::SharedMemory&, v2::InferCall* call) {
  for (const auto& [name, from] : request_.inputs()) {
    TANDEM_ASSIGN_OR_RETURN(InputTensor * tensor, v2::AddInput(session, name, FromTensorFlow(from.dtype()), call));
    TANDEM_RETURN_IF_ERROR(Annotate(UseTensorProto(from, &call->buffers, tensor), StrCat("input '", name, "'")));
  }
  for (const std::string& name : request_.output_filter()) {
    TANDEM_RETURN_IF_ERROR(v2::AddWanted(session, v2::WantedOutput{.name = name}, call));
  }
  return absl::OkStatus();
}

absl::Status PredictCodec::Encode(const InferSession& session, v2::InferCall* call, ::grpc::ByteBuffer* answer) {
  response_.Clear();
  tensorflow::serving::ModelSpec* spec = response_.mutable_model_spec();
  spec->set_name(session.model());
  spec->mutable_version()->set_value(strtoll(session.version().c_str(), nullptr, 10));
  spec->set_signature_name(std::string(tfs::kSignature));
  for (const Tensor* tensor : call->answers) {
    TANDEM_RETURN_IF_ERROR(FillTensorProto(*tensor, &(*response_.mutable_outputs())[tensor->name]));
  }
  WriteMessage(response_, answer);
  bytes_ += answer->Length();
  return absl::OkStatus();
}

void PredictCodec::Release() {
  if (bytes_ <= v2::kKeptBytes) return;
  bytes_ = 0;
  request_ = {};
  response_ = {};
}

}  // namespace tandem::api::rpc
